"""What clients of databases and caches raise: constraints and statements are data, a full or absent server is not."""

import sqlite3
from contextlib import closing

import asyncpg
import django.db
import psycopg
import pytest
import redis
import sqlalchemy
import sqlalchemy.exc
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.ext.asyncio import create_async_engine

from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.classify import classify
from tests.support.canned_services import PLAIN, always, closed_port, outcome_of, outcome_of_call, served

SYSTEMIC, TRANSIENT, DATA = OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.DATA


@pytest.mark.parametrize(
    ("answer", "code", "kind"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "SERVICE_UNAVAILABLE", SYSTEMIC),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "SERVICE_UNAVAILABLE", SYSTEMIC),
        (b"-READONLY You can't write against a read only replica.\r\n", "SERVICE_UNAVAILABLE", SYSTEMIC),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "SERVICE_UNAVAILABLE", SYSTEMIC),
        (b"-NOAUTH Authentication required.\r\n", "AUTH_FAILED", SYSTEMIC),
        (b"-WRONGTYPE Operation against a key\r\n", "RESPONSE_ERROR", DATA),
    ],
)
def test_an_answer_of_redis_is_its_first_word(answer, code, kind):
    """A wrong type is the command's, a full memory is not."""
    with served(always(answer)) as port, redis.Redis(port=port, retry=None, protocol=2, socket_timeout=0.5) as client:
        outcome = outcome_of_call(client.get, "key")
    assert (outcome.code, outcome.kind) == (code, kind)


async def test_a_database_that_cannot_be_reached_counts():
    """Alone, and under SQLAlchemy."""
    assert (await outcome_of(asyncpg.connect(host="127.0.0.1", port=closed_port()))).code == "CONNECTION_REFUSED"
    engine = create_async_engine(f"postgresql+asyncpg://u:p@127.0.0.1:{closed_port()}/d")
    assert (await outcome_of(engine.connect().__aenter__())).code == "CONNECTION_REFUSED"


def test_what_a_database_file_says():
    """sqlite3 alone, and under SQLAlchemy: broken constraints and statements are data, a locked or missing file is not."""
    with closing(sqlite3.connect(":memory:")) as db, db:
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES (1)")
        for statement in ("INSERT INTO t VALUES (1)", "SELECT nothing FROM t", "INSERT INTO t VALUES ('x')"):
            with pytest.raises(sqlite3.Error) as caught:
                db.execute(statement)
            assert classify(caught.value, PLAIN).kind is DATA, statement
    db.close()
    with pytest.raises(sqlite3.Error) as caught:
        sqlite3.connect("/nonexistent/file")
    assert classify(caught.value, PLAIN).code == "SQLITE_CANTOPEN"
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
            connection.execute(sqlalchemy.text("SELECT 1 FROM nothing"))
        assert (classify(caught.value, PLAIN).code, classify(caught.value, PLAIN).kind) == ("SQLITE_ERROR", DATA)
    engine.dispose()


@pytest.mark.parametrize(
    ("raised", "cause", "code", "kind"),
    [
        (django.db.OperationalError, psycopg.errors.AdminShutdown(), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (django.db.OperationalError, psycopg.errors.DeadlockDetected(), "SQL_40P01", TRANSIENT),
        (django.db.OperationalError, psycopg.OperationalError("connection refused"), "SERVICE_UNAVAILABLE", SYSTEMIC),
        (django.db.IntegrityError, psycopg.errors.UniqueViolation(), "SQL_23505", DATA),
        (django.db.IntegrityError, None, "INTEGRITY_ERROR", DATA),
        (django.db.InterfaceError, None, "NETWORK_ERROR", TRANSIENT),
        (ObjectDoesNotExist, None, "NOT_FOUND", DATA),
        (ValidationError, KeyError("cause"), "VALIDATION_ERROR", DATA),
    ],
)
def test_what_django_wraps_is_what_the_driver_says(raised, cause, code, kind):
    error = raised("because")
    error.__cause__ = cause
    assert (classify(error, PLAIN).code, classify(error, PLAIN).kind) == (code, kind)


def test_a_model_that_does_not_exist_is_django_s():
    """Each model has exceptions of its own, derived from Django's."""
    own = type("DoesNotExist", (ObjectDoesNotExist,), {"__module__": "shop.models"})
    assert (classify(own(), PLAIN).code, classify(own(), PLAIN).kind) == ("NOT_FOUND", DATA)


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("UniqueViolationError", "SQL_23505", DATA),
        ("InvalidTextRepresentationError", "SQL_22P02", DATA),
        ("UndefinedTableError", "SQL_42P01", DATA),
        ("DeadlockDetectedError", "SQL_40P01", TRANSIENT),
        ("SerializationError", "SQL_40001", TRANSIENT),
        ("TooManyConnectionsError", "SERVICE_UNAVAILABLE", SYSTEMIC),
        ("AdminShutdownError", "SERVICE_UNAVAILABLE", SYSTEMIC),
        ("CannotConnectNowError", "SERVICE_UNAVAILABLE", SYSTEMIC),
        ("ReadOnlySQLTransactionError", "SERVICE_UNAVAILABLE", SYSTEMIC),
        ("QueryCanceledError", "API_TIMEOUT", SYSTEMIC),
        ("InvalidPasswordError", "AUTH_FAILED", SYSTEMIC),
        ("ConnectionDoesNotExistError", "NETWORK_ERROR", TRANSIENT),
        ("InterfaceError", "NETWORK_ERROR", TRANSIENT),
    ],
)
def test_what_postgresql_says_is_its_sqlstate(name, code, kind):
    """The driver's classes, alone and as SQLAlchemy wraps them."""
    error = getattr(asyncpg, name)("because")
    assert (classify(error, PLAIN).code, classify(error, PLAIN).kind) == (code, kind)
    adapted = AsyncAdapt_asyncpg_dbapi.Error("because", error)
    adapted.__cause__ = error
    wrapped = sqlalchemy.exc.DBAPIError("SELECT 1", {}, adapted)
    wrapped.__cause__ = adapted
    assert (classify(wrapped, PLAIN).code, classify(wrapped, PLAIN).kind) == (code, kind)
