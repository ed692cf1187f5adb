"""Migrates a database to the schema of this program; reads its revision first, so that Alembic is loaded only when needed."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from sickbay.adapters.sql.grants import grant
from sickbay.adapters.sql.schema import HEAD
from sickbay.domain.errors import SettingsError

_MIGRATION_LOCK = 0x51C4BA1
_OR_ELSE = ", or choose another data folder"


def check(connection: Connection) -> bool:
    """Whether the tables are those of this program; SettingsError if a newer one made them."""
    stored = revision(connection)
    if stored is not None and stored > HEAD:
        file = connection.engine.url.database if connection.dialect.name == "sqlite" else None
        which = f"the ledger {file}" if file else "the database of DATABASE_URL"
        raise SettingsError(f"{which} has revision {stored!r}, created by a newer Sickbay: update this program{_OR_ELSE if file else ''}")
    return stored == HEAD


async def migrate(engine: AsyncEngine) -> None:
    """Upgrade to HEAD, and grant privileges, in one transaction, one program at a time."""
    async with engine.begin() as connection:
        await connection.run_sync(_migrate)


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    if not check(connection):
        upgrade(connection)
    grant(connection)


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
