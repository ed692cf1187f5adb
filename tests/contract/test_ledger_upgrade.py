"""Upgrading a large ledger on PostgreSQL while control planes of the version before write it."""

import asyncio

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, text

from sickbay.adapters.sql.engines import migrating_engine, parse_url
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.schema import HEAD, job_changes, jobs
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.queries import JobQuery
from tests.support.ledger_events import START, queued, scheduled

pytest_plugins = ["tests.support.ledger_fixtures"]
pytestmark = pytest.mark.servers

CHANGE = {"generation": 0, "attempt": 0, "state": "RETRYING", "at": 1, "code": "X", "message": "", "actor": ""}
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('job_changes_at')")
BUILDING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"


def upgrade_to(connection, revision):
    config = Config()
    config.set_main_option("script_location", "sickbay.adapters.sql:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def change(job_id):
    return insert(job_changes).values(CHANGE | {"job_id": job_id})


def old_job(job_id):
    values = {"job_id": job_id, "job_type": "email", "tenant": "default", "state": "QUEUED", "generation": 0, "attempt": 0, "rank": 0}
    return insert(jobs).values(values | {"submitted_at": 1, "updated_at": 1, "run": "", "code": ""})


class Before:
    """A ledger of revision 0004 with a row in it, and those who use it."""

    def __init__(self, engine, postgres):
        self.engine = engine
        self._postgres = postgres

    async def building(self):
        """Wait until the index is being built, which waits for a transaction that is open; returns who builds it."""
        async with asyncio.timeout(20):
            while not (rows := await asyncio.to_thread(self._postgres.sql, BUILDING)):
                await asyncio.sleep(0)
        return rows[0]["pid"]

    async def kill(self, pid):
        await asyncio.to_thread(self._postgres.sql, f"SELECT pg_terminate_backend({pid})")

    async def write(self, job_id):
        """As a control plane of the version before; an error if it has to wait."""
        async with self.engine.begin() as connection:
            await connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            await connection.execute(change(job_id))

    async def ask(self, query):
        async with self.engine.connect() as connection:
            return await connection.scalar(query)


@pytest.fixture
async def before(empty_postgres_url, postgres):
    where = parse_url(empty_postgres_url)
    engine = migrating_engine(where, None)
    async with engine.begin() as connection:
        await connection.run_sync(upgrade_to, "0004")
        await connection.execute(change("j0"))
    yield Before(engine, postgres)
    await engine.dispose()


async def opened(url, clock):
    async with open_ledger(url, clock) as ledger:
        await ledger.writer.apply([queued()])
        return (await ledger.writer.counts())[JobState.QUEUED]


async def test_events_are_written_while_it_is_upgraded(before, empty_postgres_url, clock):
    """By two control planes, one of which waits for the other."""
    async with before.engine.begin() as open_transaction:
        await open_transaction.execute(change("j1"))
        upgrading = [asyncio.create_task(opened(empty_postgres_url, clock)) for _ in range(2)]
        await before.building()
        await before.write("j2")
        assert not any(task.done() for task in upgrading)
    async with asyncio.timeout(20):
        assert await asyncio.gather(*upgrading) == [1, 1]
    assert await before.ask(IS_VALID)
    assert await before.ask(text("SELECT version_num FROM alembic_version")) == HEAD
    assert await before.ask(text("SELECT count(*) FROM job_changes WHERE state = 'RETRYING'")) == 3


async def test_an_upgrade_that_was_interrupted_is_repeated(before, empty_postgres_url, clock):
    """It leaves an index that nobody may use, which is built anew; a third one has nothing to do."""
    async with before.engine.begin() as open_transaction:
        await open_transaction.execute(change("j1"))
        upgrading = asyncio.create_task(opened(empty_postgres_url, clock))
        await before.kill(await before.building())
        with pytest.raises(Unavailable):
            await upgrading
    assert await before.ask(IS_VALID) is False
    assert await before.ask(text("SELECT version_num FROM alembic_version")) == "0004"
    for _ in range(2):
        assert await opened(empty_postgres_url, clock) == 1
    assert await before.ask(IS_VALID)
    assert await before.ask(text("SELECT version_num FROM alembic_version")) == HEAD


async def test_an_upgrade_that_was_interrupted_after_the_index_goes_on_from_there(before, empty_postgres_url, clock):
    async with before.engine.begin() as connection:
        await connection.execute(text("CREATE INDEX job_changes_at ON job_changes (at)"))
    assert await opened(empty_postgres_url, clock) == 1
    assert await before.ask(text("SELECT version_num FROM alembic_version")) == HEAD


async def test_jobs_of_before_are_normal_and_their_table_is_not_written_anew(before, empty_postgres_url, clock, postgres):
    """Not by the column, and the index is built while a control plane of before goes on writing, also after an interruption."""
    table = text("SELECT relfilenode FROM pg_class WHERE oid = 'jobs'::regclass")
    async with before.engine.connect() as connection:
        await connection.run_sync(upgrade_to, "0005")
        await connection.execute(old_job("old"))
        await connection.commit()
    written = await before.ask(table)
    async with before.engine.connect() as open_transaction:
        await open_transaction.execute(text("SELECT pg_current_xact_id()"))
        upgrading = asyncio.create_task(opened(empty_postgres_url, clock))
        pid = await before.building()
        async with before.engine.begin() as connection:
            await connection.execute(old_job("meanwhile"))
        await before.kill(pid)
        with pytest.raises(Unavailable):
            await upgrading
    assert await before.ask(text("SELECT version_num FROM alembic_version")) == "0005"
    async with open_ledger(empty_postgres_url, clock) as ledger:
        found = await ledger.reader.find(JobQuery(priority=Priority.NORMAL), 9, "")
        assert {record.job.job_id for record in found.items} == {"old", "meanwhile"}
        await ledger.writer.apply([queued("urgent", priority=Priority.HIGH)])
        (urgent,) = (await ledger.reader.find(JobQuery(priority=Priority.HIGH), 9, "")).items
        assert urgent.job.job_id == "urgent"
    assert await before.ask(text("SELECT indisvalid FROM pg_index WHERE indexrelid = 'jobs_prioritized'::regclass"))
    assert await before.ask(table) == written


async def test_a_ledger_of_before_gets_scheduled_jobs_while_it_is_written(before, empty_postgres_url, clock):
    """Its rows are not written anew, the index is built while a control plane of before goes on writing, also after an interruption."""
    table = text("SELECT relfilenode FROM pg_class WHERE oid = 'jobs'::regclass")
    async with before.engine.connect() as connection:
        await connection.run_sync(upgrade_to, "0010")
        await connection.execute(old_job("old"))
        await connection.commit()
    written = await before.ask(table)
    async with before.engine.connect() as open_transaction:
        await open_transaction.execute(text("SELECT pg_current_xact_id()"))
        upgrading = asyncio.create_task(opened(empty_postgres_url, clock))
        pid = await before.building()
        async with before.engine.begin() as connection:
            await connection.execute(old_job("meanwhile"))
        await before.kill(pid)
        with pytest.raises(Unavailable):
            await upgrading
    assert await before.ask(text("SELECT version_num FROM alembic_version")) == "0010"
    async with open_ledger(empty_postgres_url, clock) as ledger:
        found = await ledger.reader.find(JobQuery(), 9, "")
        assert {record.job.job_id: record.job.run_at for record in found.items} == {"old": 0, "meanwhile": 0}
        await ledger.writer.apply([scheduled("later", run_at=START + 5)])
        assert await ledger.scheduled_jobs.next_ms() == 5
        clock.now += 5
        assert [lease.job.job_id for lease in await ledger.scheduled_jobs.lease_due(9)] == ["later"]
    assert await before.ask(text("SELECT indisvalid FROM pg_index WHERE indexrelid = 'jobs_scheduled'::regclass"))
    assert await before.ask(text("SELECT version_num FROM alembic_version")) == HEAD
    assert await before.ask(table) == written
