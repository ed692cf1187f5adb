"""`submit` and `submit_async`: one INSERT in the caller's transaction, through SQLAlchemy, psycopg or Django.

Which library it is, is recognised by the class of the connection: none is imported here but for what the caller has loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sickbay.client.jobs import NewJob, OnOpen
from sickbay.client.payload import Payload
from sickbay.client.when import Span
from sickbay.domain.priority import Priority
from sickbay.handlers.payloads.typing import PayloadObject
from sickbay.outbox.new_row import new_row

TABLE: Final = "sickbay_outbox"
_SQLALCHEMY: Final = frozenset({"sqlalchemy.Connection", "sqlalchemy.Session", "sqlalchemy.scoped_session"})
_SQLALCHEMY_ASYNC: Final = frozenset({"sqlalchemy.AsyncConnection", "sqlalchemy.AsyncSession", "sqlalchemy.async_scoped_session"})
_PSYCOPG: Final = frozenset({"psycopg.Connection", "psycopg.Cursor"})
_PSYCOPG_ASYNC: Final = frozenset({"psycopg.AsyncConnection", "psycopg.AsyncCursor"})
_DJANGO: Final = frozenset({"django.BaseDatabaseWrapper", "django.ConnectionProxy"})
_IDLE: Final = 0
"""psycopg's `TransactionStatus.IDLE`: no transaction."""


def submit(
    transaction: Any,
    job_type: str | PayloadObject,
    payload: Payload | None = None,
    *,
    tenant: str = "",
    priority: Priority | str | None = None,
    request_id: str = "",
    on_open: OnOpen | str | None = None,
    delay: Span | None = None,
    run_at: datetime | None = None,
    schema: str | None = None,
) -> str:
    """Submit a job with the transaction: it exists if and only if that commits. Returns its idempotency key, `request_id`.

    `outbox.submit(session, Email(...))` is enough if `@job_type` says the job type of the class.

    `transaction` is a Session, scoped_session or Connection of SQLAlchemy, a Connection or Cursor of psycopg 3, or a connection of Django
    (`django.db.connection`). The arguments are those of `Client.submit`; `schema` is that of the table, by default where the connection
    looks for it. The relay submits the job soon after the commit; a `delay` counts from this call.

    InvalidRequest if the Job API would never accept the job; nothing has been written then. TypeError for another kind of connection,
    ValueError for one that commits each statement by itself.
    """
    kinds = _kinds(transaction)
    if kinds & (_SQLALCHEMY_ASYNC | _PSYCOPG_ASYNC):
        msg = f"{_name(transaction)} is asynchronous: await outbox.submit_async(...)"
        raise TypeError(msg)
    row = new_row(NewJob(job_type, payload, tenant, priority, request_id, on_open, delay, run_at))
    if kinds & _SQLALCHEMY:
        _insert(transaction if "sqlalchemy.Connection" in kinds else transaction.connection(), row, schema)
    elif kinds & _PSYCOPG:
        connection = _of_psycopg(transaction)
        with sys.modules["psycopg"].Cursor(connection) as cursor:  # not the caller's: its results stay, and its factory may be another
            cursor.execute(_statement(row, schema), row)
    elif kinds & _DJANGO:
        _insert_with_django(transaction, row, schema)
    else:
        raise _unknown(transaction)
    return str(row["request_id"])


async def submit_async(
    transaction: Any,
    job_type: str | PayloadObject,
    payload: Payload | None = None,
    *,
    tenant: str = "",
    priority: Priority | str | None = None,
    request_id: str = "",
    on_open: OnOpen | str | None = None,
    delay: Span | None = None,
    run_at: datetime | None = None,
    schema: str | None = None,
) -> str:
    """Submit a job with the transaction, as `submit` does, without blocking.

    `transaction` is an AsyncSession, async_scoped_session or AsyncConnection of SQLAlchemy, or an AsyncConnection or AsyncCursor of
    psycopg 3.
    """
    kinds = _kinds(transaction)
    if kinds & (_SQLALCHEMY | _PSYCOPG | _DJANGO):
        msg = f"{_name(transaction)} is not asynchronous: outbox.submit(...)"
        raise TypeError(msg)
    row = new_row(NewJob(job_type, payload, tenant, priority, request_id, on_open, delay, run_at))
    if kinds & _SQLALCHEMY_ASYNC:
        connection = transaction if "sqlalchemy.AsyncConnection" in kinds else await transaction.connection()
        await connection.run_sync(_insert, row, schema)
    elif kinds & _PSYCOPG_ASYNC:
        connection = _of_psycopg(transaction)
        async with sys.modules["psycopg"].AsyncCursor(connection) as cursor:
            await cursor.execute(_statement(row, schema), row)
    else:
        raise _unknown(transaction)
    return str(row["request_id"])


def _insert(connection: Any, row: Mapping[str, Any], schema: str | None) -> None:
    from sickbay.outbox.tables import outbox_table  # noqa: PLC0415 - the caller has SQLAlchemy, others need not

    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        raise _commits_by_itself()
    connection.execute(outbox_table(schema).insert().inline(), row)  # inline: needs no right to read


def _of_psycopg(transaction: Any) -> Any:
    """The connection, also of a cursor; ValueError if it has no transaction and would begin none."""
    connection = getattr(transaction, "connection", transaction)
    if connection.autocommit and connection.info.transaction_status == _IDLE:
        raise _commits_by_itself()
    return connection


def _insert_with_django(connection: Any, row: Mapping[str, Any], schema: str | None) -> None:
    """Through Django's own cursor, which has one style of placeholders for all its databases, and knows of broken transactions."""
    if connection.get_autocommit():  # `atomic` turns it off for as long as it lasts
        raise _commits_by_itself()
    with connection.cursor() as cursor:
        cursor.execute(_statement(row, schema, "`" if connection.vendor == "mysql" else '"'), row)


def _statement(row: Mapping[str, Any], schema: str | None, quote: str = '"') -> str:
    """With named placeholders, as psycopg and Django have them."""
    name = TABLE if schema is None else f"{_quoted(schema, quote)}.{TABLE}"
    return f"INSERT INTO {name} ({', '.join(row)}) VALUES ({', '.join(f'%({one})s' for one in row)})"  # noqa: S608 - quoted


def _quoted(name: str, quote: str) -> str:
    """As an identifier of SQL; a percent sign begins a placeholder, so it is doubled."""
    return f"{quote}{name.replace(quote, 2 * quote).replace('%', '%%')}{quote}"


def _kinds(transaction: Any) -> frozenset[str]:
    """The names of its classes, each with its package: subclasses, as of SQLModel, are what they are derived from."""
    return frozenset(f"{one.__module__.partition('.')[0]}.{one.__name__}" for one in type(transaction).__mro__)


def _name(transaction: Any) -> str:
    return f"{type(transaction).__module__.partition('.')[0]}.{type(transaction).__name__}"


def _unknown(transaction: Any) -> TypeError:
    return TypeError(
        "the outbox needs a session or connection of SQLAlchemy, a connection or cursor of psycopg 3, or a connection of Django, "
        f"not {_name(transaction)}"
    )


def _commits_by_itself() -> ValueError:
    return ValueError("the connection is in autocommit mode and in no transaction, so the job would exist whatever happens next: begin one")
