"""An engine for a database that is not ours, such as that of a program with an outbox: nothing is created in it or set for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sickbay.adapters.sql.engines import BUSY_TIMEOUT_MS
from sickbay.adapters.sql.postgres import STATEMENT_S, server
from sickbay.adapters.sql.sqlite import connect
from sickbay.domain.errors import SettingsError

GuestDatabase = AbstractAsyncContextManager[AsyncEngine]

POOL_SIZE: Final = 2
_POSTGRES: Final = ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg")


@asynccontextmanager
async def guest_database(text: str, variable: str) -> AsyncIterator[AsyncEngine]:
    """The engine of `guest_engine`, disposed of at the end."""
    engine = guest_engine(text, variable)
    try:
        yield engine
    finally:
        await engine.dispose()


def guest_engine(text: str, variable: str) -> AsyncEngine:
    """The engine for a URL of PostgreSQL (as psql has it), of a SQLite file, or of SQLAlchemy with an asynchronous driver.

    `variable` names the setting in the SettingsError of a URL that cannot be used.
    """
    scheme, _, rest = text.partition(":")
    if scheme in _POSTGRES:
        try:
            where = server(f"postgresql:{rest}")
        except SettingsError as error:
            raise SettingsError(str(error).replace("DATABASE_URL", variable)) from None
        return create_async_engine(
            "postgresql+sickbay://",
            async_creator=lambda: where.connect(STATEMENT_S),
            pool_size=POOL_SIZE,
            pool_pre_ping=True,
            hide_parameters=True,
        )
    try:
        url = make_url(text)
        if scheme not in {"sqlite", "sqlite+aiosqlite"}:
            return create_async_engine(url, pool_size=POOL_SIZE, pool_pre_ping=True, hide_parameters=True)
    except (ArgumentError, InvalidRequestError, ModuleNotFoundError, ValueError) as error:
        why = f"it needs {error.name}" if isinstance(error, ModuleNotFoundError) else type(error).__name__  # others may quote the password
        raise SettingsError(
            f"{variable} must be a URL of SQLAlchemy with an asynchronous driver, such as postgresql://...: {why}"
        ) from None
    if not Path(str(url.database)).is_file():
        raise SettingsError(f"{variable}: there is no database {url.database!r}")
    options = {"timeout": BUSY_TIMEOUT_MS / 1000, "async_creator_fn": connect}
    return create_async_engine(url.set(drivername="sqlite+aiosqlite"), connect_args=options, hide_parameters=True)
