"""Translates whatever SQLAlchemy and the drivers raise into `Unavailable`, and into log messages without secrets."""

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

UNAVAILABLE: Final = "the ledger is unavailable; nothing is lost, try again later"
FULL: Final = "disk full at PostgreSQL; nothing is lost, try again later"
UNSTORABLE: Final = "the ledger cannot store a value of this: a text with a NUL or half a character, or a number or text that is too large"

DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All exceptions of asyncpg. The last is not the caller's fault: asyncpg raises it for a session that the server has ended while its
connection stays open, and if none of several servers is the wanted one."""

NO_WRITES: Final = "it accepts no writes (a standby, or a failover is in progress)"

_DATA_ERRORS: Final = ("22", "23", "54")
"""Classes of SQLSTATE about data: data exception, integrity constraint violation, program limit exceeded (a key too long)."""

_SQLITE_REASONS: Final = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "permission denied, or its file system is read-only",
    sqlite3.SQLITE_IOERR: "I/O error, or disk full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_BUSY: "locked by another program",
    sqlite3.SQLITE_CORRUPT: "it is corrupted",
    sqlite3.SQLITE_NOTADB: "it is corrupted",
}
"""By the primary result code (https://sqlite.org/rescode.html)."""

_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
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
    """Raise Unavailable for every error of the database, Unstorable if it rejects a value; the cause stays attached for the log."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, *DRIVER_ERRORS) as error:
        if _is_data_error(error):
            raise Unstorable(UNSTORABLE) from error
        raise Unavailable(_message(error)) from error
    except (OverflowError, UnicodeEncodeError) as error:  # raised by SQLite's driver
        raise Unstorable(UNSTORABLE) from error


def _message(error: BaseException) -> str:
    """The message; it names what does not go away by itself: a full disk, or a damaged file."""
    if isinstance(_driver_error(error), asyncpg.DiskFullError):
        return FULL
    cause = sqlite_error(error)
    if cause is None or sqlite_code(cause) not in PERMANENT:
        return UNAVAILABLE
    return f"the ledger's file cannot be used: {sqlite_trouble(cause)}"


def sqlite_error(error: BaseException | None) -> sqlite3.Error | None:
    """SQLite's error among the causes of `error`."""
    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.orig if isinstance(error, StatementError) and error.orig is not None else error.__cause__
    return error


def _driver_error(error: BaseException) -> BaseException:
    """The driver's exception, which SQLAlchemy wraps."""
    if isinstance(error, DBAPIError):
        return error.driver_exception
    return error.orig if isinstance(error, StatementError) and error.orig is not None else error


def _is_data_error(error: BaseException) -> bool:
    """Whether the database works, but rejects this value."""
    error = _driver_error(error)
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "sqlstate", "")).startswith(_DATA_ERRORS)
    return isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | OverflowError | UnicodeEncodeError)


def reason_of(error: BaseException | None) -> str:
    """Our description of what a driver raised, found among the causes of `error`."""
    while error is not None:
        found = _sqlite_reason(error) or next((words for kind, words in _REASONS if isinstance(error, kind)), "")
        if found:
            return found
        if isinstance(error, Unavailable) and error.__cause__ is None:
            return str(error)  # raised by us, so the message is ours
        error = error.driver_exception if isinstance(error, DBAPIError) else error.__cause__
    return "unexpected response"


def _sqlite_reason(error: BaseException) -> str:
    return _SQLITE_REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
