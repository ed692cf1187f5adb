"""Turns whatever SQLAlchemy and the drivers raise into `Unavailable`, and into words for the log that give nothing away."""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from sickbay.adapters.files import PERMANENT, sqlite_code, sqlite_trouble
from sickbay.domain.errors import Unavailable, Unstorable

SENTENCE: Final = "the ledger is unavailable; nothing is lost, try again later"
FULL: Final = "disk full at PostgreSQL; nothing is lost, try again later"
REFUSAL: Final = "the ledger cannot store a value of this: a text with a NUL or half a character, or a number or text that is too large"

DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that asyncpg raises of its own. The last is no fault of its caller: it refuses so what is asked of a session that the server has
ended while its connection stays open, and says so that none of several servers is the one that is wanted."""

NO_WRITES: Final = "it accepts no writes (a standby, or a failover is in progress)"

_REFUSALS: Final = ("22", "23", "54")
"""Classes of SQLSTATE that tell of data: data exception, integrity constraint violation, program limit exceeded (a key too long)."""

_WHY_SQLITE: Final = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "permission denied, or its file system is read-only",
    sqlite3.SQLITE_IOERR: "I/O error, or disk full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_BUSY: "locked by another program",
    sqlite3.SQLITE_CORRUPT: "it is corrupted",
    sqlite3.SQLITE_NOTADB: "it is corrupted",
}
"""By the primary result code (https://sqlite.org/rescode.html)."""

_WHY: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (asyncpg.InvalidAuthorizationSpecificationError, "authentication failed (user or password of DATABASE_URL, or pg_hba.conf)"),
    (asyncpg.InvalidCatalogNameError, "the database does not exist"),
    (
        asyncpg.InsufficientPrivilegeError,
        "permission denied (the control plane grants privileges when it starts; see roles.sql)",
    ),
    (asyncpg.UndefinedTableError, "the tables do not exist yet"),
    (asyncpg.ReadOnlySQLTransactionError, "it is read-only"),
    (asyncpg.DiskFullError, "disk full"),
    (asyncpg.PostgresSystemError, "I/O error, or disk full"),
    (asyncpg.OutOfMemoryError, "out of memory"),
    (asyncpg.CannotConnectNowError, "it is starting up or shutting down"),
    (asyncpg.AdminShutdownError, "it is shutting down"),
    (asyncpg.CrashShutdownError, "one of its processes crashed, and it is restarting"),
    (asyncpg.TooManyConnectionsError, "too many connections"),
    (asyncpg.ReadOnlySQLTransactionError, NO_WRITES),
    (asyncpg.TargetServerAttributeNotMatched, NO_WRITES),
    (asyncpg.QueryCanceledError, "statement timeout"),
    (asyncpg.DeadlockDetectedError, "deadlock detected"),
    (asyncpg.InternalServerError, "internal error, see PostgreSQL's log; its disk may be full"),
    (asyncpg.PostgresConnectionError, "the connection was lost"),
    (asyncpg.InterfaceError, "the connection was lost"),
    (asyncpg.InternalClientError, "the connection was lost"),
    (TimeoutError, "timed out"),
    (ConnectionRefusedError, "connection refused"),
    (socket.gaierror, "its host name cannot be resolved"),
    (ssl.SSLError, "TLS handshake failed"),
    (OSError, "the connection was lost"),
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for every failure of the database, Unstorable if it refuses a value; the cause stays attached for the log."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, *DRIVER_ERRORS) as error:
        if _is_refusal(error):
            raise Unstorable(REFUSAL) from error
        raise Unavailable(_sentence(error)) from error
    except (OverflowError, UnicodeEncodeError) as error:  # SQLite's driver raises them as they are
        raise Unstorable(REFUSAL) from error


def _sentence(error: BaseException) -> str:
    """What does not pass by itself is said: the disk of a server or under a file is full, or the file is damaged."""
    if isinstance(_driver_error(error), asyncpg.DiskFullError):
        return FULL
    cause = sqlite_error(error)
    if cause is None or sqlite_code(cause) not in PERMANENT:
        return SENTENCE
    return f"the ledger's file cannot be used: {sqlite_trouble(cause)}"


def sqlite_error(error: BaseException | None) -> sqlite3.Error | None:
    """SQLite's own error among the causes of `error`."""
    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.orig if isinstance(error, StatementError) and error.orig is not None else error.__cause__
    return error


def _driver_error(error: BaseException) -> BaseException:
    """What SQLAlchemy has wrapped."""
    if isinstance(error, DBAPIError):
        return error.driver_exception
    return error.orig if isinstance(error, StatementError) and error.orig is not None else error


def _is_refusal(error: BaseException) -> bool:
    """Whether the database works, and will never take just this."""
    error = _driver_error(error)
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "sqlstate", "")).startswith(_REFUSALS)
    return isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | OverflowError | UnicodeEncodeError)


def why(error: BaseException | None) -> str:
    """Our own words for what a driver raised, looked for among the causes of `error`."""
    while error is not None:
        found = _why_sqlite(error) or next((words for kind, words in _WHY if isinstance(error, kind)), "")
        if found:
            return found
        if isinstance(error, Unavailable) and error.__cause__ is None:
            return str(error)  # not the driver's trouble but ours, in our own words
        error = error.driver_exception if isinstance(error, DBAPIError) else error.__cause__
    return "unexpected response"


def _why_sqlite(error: BaseException) -> str:
    return _WHY_SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
