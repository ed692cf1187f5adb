"""The differences of SQLite and PostgreSQL (`postgres.py`): URLs, engines, and SQL.

SQLite has one writer at a time, so each process has one writing connection behind one lock, and separate readers (WAL lets them read
meanwhile). WAL with synchronous FULL: a commit that returned survives a power failure, because events are acknowledged after it. A database
in memory is a `memdb` shared by our connections, has no WAL, and so its readers take the lock, too.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Table, bindparam, cast, event, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from sickbay.adapters.sql.pool import Pool
from sickbay.adapters.sql.postgres import Server, migration_engine, server
from sickbay.adapters.sql.sqlite import connect
from sickbay.domain.errors import SettingsError
from sickbay.ports import Clock

Insert = sqlite.Insert | postgresql.Insert

READERS: Final = 4
BUSY_TIMEOUT_MS: Final = 5_000
POOL_TIMEOUT_S: Final = 10

_SQLITE: Final = {"sqlite", "sqlite+aiosqlite"}
_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA cache_size=-16384",
    "PRAGMA temp_store=MEMORY",
)


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """The location of a ledger: a PostgreSQL server, or a SQLite database; `memory` is the name of one in memory."""

    url: URL | None = None
    memory: str = ""
    server: Server | None = None

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database."""
        return None if self.server or self.memory or self.url is None else Path(str(self.url.database))

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite, which has one writer at a time."""
        return self.server is None


def parse_url(text: str | Path) -> DatabaseLocation:
    """Parse a database URL, or the path of a SQLite file; SettingsError if it is not supported or its folder is missing."""
    if isinstance(text, Path):
        return DatabaseLocation(URL.create("sqlite+aiosqlite", database=str(text)))
    if text.partition(":")[0] not in _SQLITE:
        return DatabaseLocation(server=server(text))
    try:
        url = make_url(text).set(drivername="sqlite+aiosqlite")
    except (ArgumentError, ValueError):
        raise SettingsError("DATABASE_URL must be postgresql://user:password@host:port/database or sqlite:///path/to/file") from None
    if url.database in {None, "", ":memory:"}:
        name = f"file:/sickbay-{uuid.uuid4().hex}?vfs=memdb"
        return DatabaseLocation(url.set(database=name, query={"uri": "true"}), name)
    if not Path(str(url.database)).parent.is_dir():
        raise SettingsError(f"DATABASE_URL: the folder of {url.database!r} does not exist")
    return DatabaseLocation(url)


def writing_engine(where: DatabaseLocation, pool: Pool | None) -> AsyncEngine:
    """The engine for writing transactions; on SQLite it has one connection, and takes the write lock at BEGIN."""
    if pool:
        return pool.engine
    engine = _sqlite_engine(where.url, 1, _PRAGMAS)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def migrating_engine(where: DatabaseLocation, writer: AsyncEngine) -> AsyncEngine:
    """The engine for migrations, with a longer statement timeout."""
    return migration_engine(where.server) if where.server else writer


def reading_engine(where: DatabaseLocation, writer: AsyncEngine) -> AsyncEngine:
    """The engine for reads, each statement its own transaction; on PostgreSQL it shares the writer's connections."""
    if not where.is_sqlite:
        return writer.execution_options(isolation_level="AUTOCOMMIT")
    size = 1 if where.memory else READERS
    pragmas = (*_PRAGMAS, "PRAGMA query_only=ON")
    return _sqlite_engine(where.url, size, pragmas, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True)


def snapshot_engine(where: DatabaseLocation, writer: AsyncEngine) -> AsyncEngine:
    """The engine for transactions that read one snapshot."""
    return writer if where.is_sqlite else writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _sqlite_engine(url: URL | None, size: int, pragmas: tuple[str, ...], **options: Any) -> AsyncEngine:
    engine = create_async_engine(
        url or "sqlite+aiosqlite://",
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        # We begin transactions explicitly, not the driver.
        connect_args={"isolation_level": None, "async_creator_fn": connect},
        **options,
    )

    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    event.listen(engine.sync_engine, "connect", prepare)
    return engine


def upsert(where: DatabaseLocation, table: Table) -> Insert:
    """An INSERT that has `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return sqlite.insert(table) if where.is_sqlite else postgresql.insert(table)


def server_time() -> ColumnElement[int]:
    """The time of a PostgreSQL server in ms, the same for a whole statement (so that an index can be searched by it)."""
    return cast(func.floor(func.extract("epoch", func.statement_timestamp()) * 1000), BigInteger)


def clock_time(clock: Clock) -> ColumnElement[int]:
    """The time of a local clock, read whenever a statement is executed."""
    return bindparam(None, callable_=clock, type_=BigInteger, unique=True)
