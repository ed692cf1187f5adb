"""Turns whatever SQLAlchemy and the drivers raise into `Unavailable`, and into words for the log that give nothing away."""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sickbay.errors import Unavailable

SENTENCE = "the ledger does not answer; nothing is lost, try again later"

_WHY: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (asyncpg.InvalidAuthorizationSpecificationError, "it refuses our user or password"),
    (asyncpg.InvalidCatalogNameError, "it has no such database"),
    (asyncpg.InsufficientPrivilegeError, "our user lacks a privilege (roles.sql has them)"),
    (asyncpg.UndefinedTableError, "the tables are not there yet"),
    (asyncpg.CannotConnectNowError, "it is just starting or stopping"),
    (asyncpg.AdminShutdownError, "it is just stopping"),
    (asyncpg.TooManyConnectionsError, "it has too many connections"),
    (asyncpg.QueryCanceledError, "a statement took too long"),
    (asyncpg.DeadlockDetectedError, "two transactions waited for each other"),
    (asyncpg.PostgresConnectionError, "the connection was lost"),
    (asyncpg.InterfaceError, "the connection was lost"),
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "nobody listens there"),
    (socket.gaierror, "its host name is unknown"),
    (ssl.SSLError, "no TLS connection can be made"),
    (OSError, "the connection was lost"),
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise Unavailable for every failure of the database; the cause stays attached for the log."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(SENTENCE) from error


def why(error: BaseException | None) -> str:
    """Our own words for what a driver raised, looked for among the causes of `error`."""
    while error is not None:
        found = next((words for kind, words in _WHY if isinstance(error, kind)), "")
        if found:
            return found
        if isinstance(error, Unavailable) and error.__cause__ is None:
            return str(error)  # not the driver's trouble but ours, in our own words
        error = error.driver_exception if isinstance(error, DBAPIError) else error.__cause__
    return "it does not answer as expected"
