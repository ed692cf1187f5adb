"""The outbox through Django's connections, and its table by Django's migration, on each database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.transaction import TransactionManagementError
from sqlalchemy import inspect

from sickbay import outbox
from sickbay.client import InvalidRequest, NewJob
from sickbay.outbox.store import OutboxRow, OutboxStore
from tests.support.django_databases import django_connection
from tests.support.outbox_databases import DATABASES, OutboxDatabase, outbox_database


@pytest.fixture(params=DATABASES)
def database(request, tmp_path) -> Iterator[OutboxDatabase]:
    with outbox_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def connection(database: OutboxDatabase) -> Iterator[Any]:
    with django_connection(database) as made:
        yield made


def keys(database: OutboxDatabase) -> list[str]:
    return [row[0] for row in database.sql("SELECT request_id FROM sickbay_outbox ORDER BY id")]


async def relayed(database: OutboxDatabase) -> tuple[OutboxRow, OutboxRow]:
    """The only row as a relay claims it, and as it is after the Job API has rejected it."""
    engine = database.async_engine()
    store = OutboxStore(engine)
    (row,) = await store.claim("token", 10, 2**42, 2**43)
    await store.settle("token", [], {}, {row.id: "rejected"}, 5)
    (kept,) = await store.rows(10)
    await engine.dispose()
    return row, kept


def rolled_back(connection: Any) -> None:
    """Submit in an atomic block that ends with an exception."""
    with suppress(ZeroDivisionError), transaction.atomic(using=connection.alias):
        outbox.submit(connection, "email", {"order": 2})
        raise ZeroDivisionError


def test_a_job_exists_if_and_only_if_the_atomic_block_committed(database: OutboxDatabase, connection: Any):
    """So do blocks in blocks, which are savepoints, and `on_commit` has not happened before."""
    kept = []
    with transaction.atomic(using=connection.alias):
        connection.cursor().execute("INSERT INTO orders VALUES (1)")
        kept.append(outbox.submit(connection, "email", {"order": "50 %s"}, tenant="acme", priority="HIGH", on_open="REJECT"))
        rolled_back(connection)
        with transaction.atomic(using=connection.alias):
            kept.append(outbox.submit(connection, "email", {"order": 3}))
        assert keys(database) == []
    rolled_back(connection)
    assert keys(database) == kept
    assert database.sql("SELECT id FROM orders") == [(1,)]


def test_a_job_for_later_has_its_time(database: OutboxDatabase, connection: Any):
    with transaction.atomic(using=connection.alias):
        outbox.submit(connection, "email", {}, run_at=datetime(2097, 1, 1, tzinfo=UTC))
        outbox.submit(connection, "email", {})
    assert database.sql("SELECT run_at FROM sickbay_outbox ORDER BY id") == [(4_007_836_800_000,), (0,)]


def test_without_a_transaction_it_is_refused(database: OutboxDatabase, connection: Any):
    with pytest.raises(ValueError, match="autocommit mode and in no transaction"):
        outbox.submit(connection, "email", {})
    assert keys(database) == []


def test_a_connection_that_never_commits_by_itself(database: OutboxDatabase, connection: Any):
    """`AUTOCOMMIT: False` and `set_autocommit(False)`: the program commits."""
    connection.set_autocommit(False)
    outbox.submit(connection, "email", {}, request_id="rolled back")
    connection.rollback()
    outbox.submit(connection, "email", {}, request_id="committed")
    connection.commit()
    assert keys(database) == ["committed"]


def test_an_invalid_job_leaves_the_transaction_usable(database: OutboxDatabase, connection: Any):
    with transaction.atomic(using=connection.alias):
        with pytest.raises(InvalidRequest):
            outbox.submit(connection, "Not a type", {})
        outbox.submit(connection, "email", {}, request_id="valid")
    assert keys(database) == ["valid"]


def test_a_broken_transaction_is_reported_by_django(database: OutboxDatabase, connection: Any):
    with transaction.atomic(using=connection.alias):
        connection.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            outbox.submit(connection, "email", {})
    assert keys(database) == []


async def test_it_is_not_asynchronous(connection: Any):
    with pytest.raises(TypeError, match=r"django.DatabaseWrapper is not asynchronous: outbox.submit"):
        await outbox.submit_async(connection, "email", {})


def test_the_relay_finds_the_job_as_it_was_submitted(database: OutboxDatabase, connection: Any):
    with transaction.atomic(using=connection.alias):
        outbox.submit(connection, "email", {"order": "ä 50 %"}, tenant="acme", priority="HIGH", request_id="key", on_open="REJECT")
    (row, _) = asyncio.run(relayed(database))
    assert row.job == NewJob("email", '{"order":"ä 50 %"}', "acme", "HIGH", "key", "REJECT")


def test_a_table_in_a_schema(tmp_path):
    with outbox_database("sqlite", tmp_path) as database, django_connection(database) as connection:
        with transaction.atomic(using=connection.alias):
            outbox.submit(connection, "email", {}, schema="main", request_id="in main")
        with pytest.raises(Exception, match=r'no such table: my 100 % "app".sickbay_outbox'), transaction.atomic(using=connection.alias):
            outbox.submit(connection, "email", {}, schema='my 100 % "app"')
        assert keys(database) == ["in main"]


def test_the_migration_makes_the_documented_table(database: OutboxDatabase, connection: Any):
    """The same columns, nullable or not, and an index for the relay; it works with rows that Django's connection wrote."""
    documented = _shape(database)
    database.sql("DROP TABLE sickbay_outbox")
    call_command("migrate", "sickbay_outbox", database=connection.alias, verbosity=0)
    assert _shape(database) == documented
    with transaction.atomic(using=connection.alias):
        outbox.submit(connection, "email", {}, request_id="key")
    claimed, kept = asyncio.run(relayed(database))
    assert (claimed.job.request_id, kept.failed_at, kept.last_error) == ("key", 5, "rejected")


def test_the_model_is_as_the_migrations_have_it(connection: Any):
    out = StringIO()
    call_command("makemigrations", "sickbay_outbox", check=True, dry_run=True, stdout=out)
    assert "No changes detected" in out.getvalue()
    assert ("sickbay_outbox", "0001_initial") in MigrationExecutor(connection).loader.graph.nodes


def _shape(database: OutboxDatabase) -> object:
    engine = database.engine()
    found = inspect(engine)
    columns = sorted((one["name"], one["nullable"]) for one in found.get_columns("sickbay_outbox"))
    indexes = [(one["name"], one["column_names"]) for one in found.get_indexes("sickbay_outbox")]
    engine.dispose()
    return columns, indexes
