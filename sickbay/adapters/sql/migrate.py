"""Migrates a database to the schema of this program; reads its revision first, so that Alembic is loaded only when needed."""

from __future__ import annotations

import asyncio
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sickbay.adapters.sql.grants import grant
from sickbay.adapters.sql.schema import HEAD
from sickbay.domain.errors import SettingsError

_MIGRATION_LOCK: Final = 0x51C4BA1
_TRY_LOCK: Final = text("SELECT pg_try_advisory_lock(:key)")
_TRY_AGAIN_S: Final = 0.2
_OR_ELSE: Final = ", or choose another data folder"


def check(connection: Connection) -> bool:
    """Whether the tables are those of this program; SettingsError if a newer one made them."""
    stored = revision(connection)
    if stored is not None and stored > HEAD:
        file = connection.engine.url.database if connection.dialect.name == "sqlite" else None
        which = f"the ledger {file}" if file else "the database of DATABASE_URL"
        raise SettingsError(f"{which} has revision {stored!r}, created by a newer Sickbay: update this program{_OR_ELSE if file else ''}")
    return stored == HEAD


async def migrate(engine: AsyncEngine) -> None:
    """Upgrade to HEAD, and grant privileges, one program at a time.

    In one transaction, except that on PostgreSQL a revision may commit what was done before it.
    """
    if engine.dialect.name != "postgresql":
        async with engine.begin() as connection:
            if not await connection.run_sync(check):
                await connection.run_sync(upgrade)
        return
    async with engine.connect() as connection:
        await _lock(connection)
        is_current = await connection.run_sync(check)
        await connection.rollback()
        if not is_current:
            await connection.run_sync(upgrade)
        await connection.run_sync(grant)
        await connection.commit()


async def _lock(connection: AsyncConnection) -> None:
    """Wait until no other program migrates; the lock ends with the session.

    Not in one statement: an index that is built concurrently waits for all older statements to end, so for one that waits for the builder.
    """
    while not await connection.scalar(_TRY_LOCK, {"key": _MIGRATION_LOCK}):
        await connection.rollback()
        await asyncio.sleep(_TRY_AGAIN_S)
    await connection.rollback()


def revision(connection: Connection) -> str | None:
    """The revision stored in the database, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    stored: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return stored


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing."""
    # Alembic takes 100 ms to import, and most starts do not need it.
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", "sickbay.adapters.sql:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
