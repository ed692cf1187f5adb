"""Writing into the outbox and claiming from it, on each database: through SQLAlchemy and psycopg."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sickbay import outbox
from sickbay.client import InvalidRequest, NewJob
from sickbay.outbox.store import Backlog, OutboxStore
from sickbay.outbox.tables import ddl
from tests.support.outbox_databases import DATABASES, OutboxDatabase, outbox_database


@pytest.fixture(params=DATABASES)
def database(request, tmp_path) -> Iterator[OutboxDatabase]:
    with outbox_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def postgres(tmp_path) -> Iterator[OutboxDatabase]:
    with outbox_database("postgresql", tmp_path) as made:
        yield made


@pytest.fixture
async def store(database: OutboxDatabase):
    engine = database.async_engine()
    yield OutboxStore(engine)
    await engine.dispose()


def keys(database: OutboxDatabase) -> list[str]:
    return [row[0] for row in database.sql("SELECT request_id FROM sickbay_outbox ORDER BY id")]


def write(database: OutboxDatabase, *numbers: int) -> None:
    engine = database.engine()
    with Session(engine) as session, session.begin():
        for number in numbers:
            outbox.submit(session, "email", {"n": number}, request_id=f"key-{number}")
    engine.dispose()


def test_a_session(database: OutboxDatabase):
    """A commit keeps both or a rollback neither; so does a savepoint."""
    with Session(database.engine()) as session:
        session.execute(text("INSERT INTO orders VALUES (1)"))
        first = outbox.submit(session, "email", {"order": 1}, tenant="acme")
        session.commit()
        session.execute(text("INSERT INTO orders VALUES (2)"))
        outbox.submit(session, "email", {"order": 2})
        session.rollback()
        second = outbox.submit(session, "email", {"order": 3})
        with session.begin_nested() as savepoint:
            outbox.submit(session, "email", {"order": 4})
            savepoint.rollback()
        session.commit()
    assert keys(database) == [first, second]
    assert [row[0] for row in database.sql("SELECT id FROM orders")] == [1]


def test_a_connection_and_a_scoped_session(database: OutboxDatabase):
    engine = database.engine()
    with engine.begin() as connection:
        outbox.submit(connection, "email", {}, request_id="of a connection")
    scoped = scoped_session(sessionmaker(engine))
    outbox.submit(scoped, "email", {}, request_id="of a scoped session")
    scoped.commit()
    scoped.remove()
    with engine.connect() as connection:
        outbox.submit(connection, "email", {}, request_id="never committed")
    assert keys(database) == ["of a connection", "of a scoped session"]


async def test_without_blocking(database: OutboxDatabase):
    engine = database.async_engine()
    async with AsyncSession(engine) as session:
        await outbox.submit_async(session, "email", {}, request_id="of a session")
        await session.commit()
        await outbox.submit_async(session, "email", {}, request_id="rolled back")
        await session.rollback()
    async with engine.begin() as connection:
        await outbox.submit_async(connection, "email", {}, request_id="of a connection")
        await connection.run_sync(outbox.submit, "email", {}, request_id="of code that blocks")
    scoped = async_scoped_session(async_sessionmaker(engine), lambda: 1)
    await outbox.submit_async(scoped, "email", {}, request_id="of a scoped session")
    await scoped.commit()
    await scoped.remove()
    await engine.dispose()
    assert keys(database) == ["of a session", "of a connection", "of code that blocks", "of a scoped session"]


def test_a_job_that_cannot_be_accepted_leaves_the_transaction_as_it_was(database: OutboxDatabase):
    with Session(database.engine()) as session, session.begin():
        outbox.submit(session, "email", {}, request_id="before")
        with pytest.raises(InvalidRequest, match="job type"):
            outbox.submit(session, "No Type", {})
        outbox.submit(session, "email", {}, request_id="after")
    assert keys(database) == ["before", "after"]


def test_a_connection_that_commits_by_itself_is_refused(database: OutboxDatabase):
    engine = database.engine().execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ValueError, match="autocommit"):
        outbox.submit(connection, "email", {})
    assert keys(database) == []


@pytest.mark.servers
def test_psycopg(postgres: OutboxDatabase):
    with psycopg.connect(postgres.url) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT generate_series(1, 2)")
            outbox.submit(cursor, "email", {"text": "100 %s % \N{SNOWMAN}"}, request_id="of a cursor")
            assert cursor.fetchall() == [(1,), (2,)]
        outbox.submit(connection, "email", {}, request_id="of a connection")
        connection.commit()
        outbox.submit(connection, "email", {}, request_id="rolled back")
        connection.rollback()
    assert keys(postgres) == ["of a cursor", "of a connection"]
    assert postgres.sql("SELECT payload FROM sickbay_outbox ORDER BY id LIMIT 1") == [('{"text":"100 %s % \N{SNOWMAN}"}',)]


@pytest.mark.servers
def test_psycopg_with_autocommit_needs_a_transaction(postgres: OutboxDatabase):
    with psycopg.connect(postgres.url, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        with pytest.raises(ValueError, match="autocommit"):
            outbox.submit(connection, "email", {})
        with connection.transaction():
            outbox.submit(connection, "email", {}, request_id="inside")
    assert keys(postgres) == ["inside"]


@pytest.mark.servers
async def test_psycopg_without_blocking(postgres: OutboxDatabase):
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        await outbox.submit_async(connection, "email", {}, request_id="of a connection")
        async with connection.cursor() as cursor:
            await outbox.submit_async(cursor, "email", {}, request_id="of a cursor")
        await connection.commit()
        await outbox.submit_async(connection, "email", {}, request_id="rolled back")
        await connection.rollback()
    assert keys(postgres) == ["of a connection", "of a cursor"]


@pytest.mark.servers
async def test_a_schema(postgres: OutboxDatabase):
    """Named everywhere, or nowhere."""
    schema = 'a "b" 100%s'
    postgres.sql('CREATE SCHEMA "a ""b"" 100%s"')
    for statement in ddl("postgresql", schema=schema).split(";")[:-1]:
        with psycopg.connect(postgres.url) as connection:
            connection.execute(statement.encode())
    with psycopg.connect(postgres.url) as connection:
        outbox.submit(connection, "email", {}, request_id="of psycopg", schema=schema)
    engine = postgres.async_engine()
    async with engine.begin() as connection:
        await outbox.submit_async(connection, "email", {}, request_id="of SQLAlchemy", schema=schema)
    store = OutboxStore(engine, schema)
    assert await store.exists()
    assert [row.job.request_id for row in await store.claim("token", 9, 1, 2)] == ["of psycopg", "of SQLAlchemy"]
    assert not await OutboxStore(engine, "elsewhere").exists()
    await engine.dispose()
    assert keys(postgres) == []


async def test_a_claim_has_the_oldest_and_nobody_else_gets_them_before_the_lease_ends(database: OutboxDatabase, store: OutboxStore):
    write(database, 1, 2, 3)
    first = await store.claim("a", 2, now=1_000, until=2_000)
    assert [row.job for row in first] == [NewJob("email", f'{{"n":{n}}}', request_id=f"key-{n}") for n in (1, 2)]
    assert [row.attempts for row in first] == [1, 1]
    assert [row.job.request_id for row in await store.claim("b", 2, now=1_999, until=3_000)] == ["key-3"]
    assert await store.claim("c", 2, now=1_999, until=3_000) == []
    again = await store.claim("c", 9, now=2_000, until=3_000)
    assert [(row.job.request_id, row.attempts) for row in again] == [("key-1", 2), ("key-2", 2)]


async def test_each_row_is_settled_by_its_answer(database: OutboxDatabase, store: OutboxStore):
    write(database, 1, 2, 3, 4)
    one, two, three, four = (row.id for row in await store.claim("a", 9, now=0, until=10_000))
    await store.settle("a", [one], {two: (5_000, "full")}, {three: "bad"}, now=77)
    await store.release("a", [four], "away")
    left = {row.id: (row.failed_at, row.last_error) for row in await store.rows(9)}
    assert left == {two: (0, "full"), three: (77, "bad"), four: (0, "away")}
    assert [row.id for row in await store.claim("b", 9, now=4_999, until=10_000)] == [four]
    assert [row.id for row in await store.claim("b", 9, now=5_000, until=10_000)] == [two]
    backlog = await store.backlog()
    assert (backlog.waiting, backlog.failed) == (2, 1)
    assert backlog.oldest == database.sql("SELECT min(created_at) FROM sickbay_outbox")[0][0]


async def test_who_was_overtaken_changes_nothing(database: OutboxDatabase, store: OutboxStore):
    write(database, 1)
    (row,) = await store.claim("slow", 9, now=0, until=10)
    await store.claim("quick", 9, now=10, until=20)
    await store.settle("slow", [row.id], {}, {}, now=11)
    await store.settle("slow", [], {row.id: (0, "late")}, {}, now=11)
    await store.settle("slow", [], {}, {row.id: "late"}, now=11)
    await store.release("slow", [row.id], "late")
    assert await store.claim("third", 9, now=19, until=30) == []
    assert [(one.failed_at, one.last_error) for one in await store.rows(9)] == [(0, "")]
    await store.settle("quick", [row.id], {}, {}, now=19)
    assert await store.backlog() == Backlog(0, None, 0)


async def test_rejected_jobs_are_kept_until_a_person_decides(database: OutboxDatabase, store: OutboxStore):
    write(database, 1, 2, 3, 4)
    ids = [row.id for row in await store.claim("a", 9, now=0, until=0)]
    await store.settle("a", [], {}, dict.fromkeys(ids[:3], "bad"), now=5)
    assert [row.id for row in await store.claim("b", 9, now=9, until=99)] == [ids[3]]
    assert [row.id for row in await store.rows(9, failed=True)] == ids[:3]
    assert [row.id for row in await store.rows(9, failed=False)] == [ids[3]]
    assert await store.retry([ids[0], ids[3], 1_000]) == 1
    assert [row.id for row in await store.claim("c", 9, now=9, until=99)] == [ids[0]]
    assert await store.discard([ids[1], ids[3]]) == 1
    assert await store.discard(None) == 1
    assert await store.retry(None) == 0
    assert [row.id for row in await store.rows(9)] == [ids[0], ids[3]]


@pytest.mark.servers
async def test_a_transaction_that_commits_late_is_not_skipped(postgres: OutboxDatabase):
    """Its row has the lower id."""
    engine = postgres.async_engine()
    store = OutboxStore(engine)
    with psycopg.connect(postgres.url) as late:
        outbox.submit(late, "email", {}, request_id="late")
        write(postgres, 1)
        (row,) = await store.claim("a", 9, now=0, until=10)
        assert row.job.request_id == "key-1"
        await store.settle("a", [row.id], {}, {}, now=0)
        late.commit()
    (found,) = await store.claim("a", 9, now=0, until=10)
    assert found.job.request_id == "late"
    assert found.id < row.id
    await engine.dispose()


@pytest.mark.servers
async def test_relays_share_the_rows_and_do_not_wait_for_each_other(postgres: OutboxDatabase):
    write(postgres, 1, 2, 3)
    engine = postgres.async_engine()
    with psycopg.connect(postgres.url) as other:
        other.execute("SELECT id FROM sickbay_outbox ORDER BY id LIMIT 2 FOR UPDATE")
        assert [row.job.request_id for row in await OutboxStore(engine).claim("b", 9, now=0, until=10)] == ["key-3"]
    await engine.dispose()


@pytest.mark.servers
async def test_roles_with_the_least_rights(postgres: OutboxDatabase):
    """As docs/outbox.md names them."""
    program, relay = (f"sickbay_{name}_{uuid.uuid4().hex[:12]}" for name in ("program", "relay"))
    for role in (program, relay):
        postgres.sql(f"CREATE ROLE {role}")
    try:
        postgres.sql(f"GRANT INSERT ON sickbay_outbox TO {program}")
        postgres.sql(f"GRANT USAGE ON SEQUENCE sickbay_outbox_id_seq TO {program}")
        postgres.sql(f"GRANT SELECT, UPDATE, DELETE ON sickbay_outbox TO {relay}")
        with psycopg.connect(postgres.url) as connection:
            connection.execute(f"SET ROLE {program}".encode())
            outbox.submit(connection, "email", {}, request_id="of psycopg")
        engine = postgres.async_engine()
        async with engine.begin() as connection:
            await connection.execute(text(f"SET ROLE {program}"))
            await outbox.submit_async(connection, "email", {}, request_id="of SQLAlchemy")
        event.listen(engine.sync_engine, "begin", lambda one: one.exec_driver_sql(f"SET ROLE {relay}"))
        store = OutboxStore(engine)
        assert await store.exists()
        first, second = (row.id for row in await store.claim("a", 9, now=0, until=10))
        await store.settle("a", [first], {}, {second: "bad"}, now=1)
        assert await store.backlog() == Backlog(0, None, 1)
        assert await store.discard(None) == 1
        await engine.dispose()
    finally:
        for role in (program, relay):
            postgres.sql(f"DROP OWNED BY {role}")
            postgres.sql(f"DROP ROLE {role}")


async def test_a_job_for_later_has_its_time(database: OutboxDatabase, store: OutboxStore):
    """A delay counts from the submit; the relay passes the time on."""
    at = datetime(2097, 1, 1, 8, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))
    before = datetime.now(UTC)
    with Session(database.engine()) as session, session.begin():
        outbox.submit(session, "email", {}, run_at=at)
        outbox.submit(session, "email", {}, delay=60)
        outbox.submit(session, "email", {}, run_at=datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(InvalidRequest, match="has no time zone"):
            outbox.submit(session, "email", {}, run_at=datetime(2097, 1, 1))  # noqa: DTZ001
        with pytest.raises(InvalidRequest, match="delay must be 0 to"):
            outbox.submit(session, "email", {}, delay=timedelta(days=4_000))
    first, second, third = (row.job for row in await store.claim("a", 9, now=1, until=10))
    assert first.run_at == at
    assert second.run_at is not None
    assert timedelta(seconds=59.9) < second.run_at - before < timedelta(seconds=90)
    assert third.run_at is None
    assert [row.job.run_at for row in await store.rows(9)] == [first.run_at, second.run_at, None]


async def test_a_table_of_an_earlier_version(database: OutboxDatabase, store: OutboxStore):
    """It goes on as before, and a relay that runs sees times as soon as the column is there."""
    database.sql("ALTER TABLE sickbay_outbox DROP COLUMN run_at")
    write(database, 1)
    (row,) = await store.claim("a", 9, now=1, until=10)
    assert (row.job.request_id, row.job.run_at, len(await store.rows(9))) == ("key-1", None, 1)
    with Session(database.engine()) as session, session.begin(), pytest.raises(DBAPIError, match="run_at"):
        outbox.submit(session, "email", {}, delay=60)
    database.sql("ALTER TABLE sickbay_outbox ADD COLUMN run_at BIGINT DEFAULT 0 NOT NULL")
    with Session(database.engine()) as session, session.begin():
        outbox.submit(session, "email", {}, delay=60)
    (row,) = await store.claim("b", 9, now=1, until=10)
    assert row.job.run_at is not None
    assert [one.job.run_at for one in await store.rows(9)] == [None, row.job.run_at]


@pytest.mark.servers
async def test_psycopg_writes_the_time_of_a_job(postgres: OutboxDatabase):
    with psycopg.connect(postgres.url) as connection:
        outbox.submit(connection, "email", {}, run_at=datetime(2097, 1, 1, tzinfo=UTC))
        outbox.submit(connection, "email", {})
    assert postgres.sql("SELECT run_at FROM sickbay_outbox ORDER BY id") == [(4_007_836_800_000,), (0,)]


@pytest.mark.servers
def test_an_idle_look_reads_an_index_whatever_was_rejected(postgres: OutboxDatabase):
    values = "'k' || n, 'email', '', '', '{}', '', 1, 5 FROM generate_series(1, 20000) AS n"
    columns = "request_id, job_type, tenant, priority, payload, on_open, created_at, failed_at"
    postgres.sql(f"INSERT INTO sickbay_outbox ({columns}) SELECT {values}")
    postgres.sql("ANALYZE sickbay_outbox")
    look = "SELECT id FROM sickbay_outbox WHERE failed_at = 0 AND due_at <= 9 ORDER BY id LIMIT 200 FOR UPDATE SKIP LOCKED"
    plan = "\n".join(row[0] for row in postgres.sql(f"EXPLAIN {look}"))
    assert "Index Scan using sickbay_outbox_waiting" in plan
    assert "Sort" not in plan
