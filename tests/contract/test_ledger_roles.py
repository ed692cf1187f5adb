"""What `roles.sql` and the control plane grant is enough for each service, and no more."""

import asyncpg
import pytest

from sickbay.adapters.sql.grants import GRANTS
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.schema import metadata
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.queries import JobQuery
from tests.support import one_key
from tests.support.ledger_events import cancelled, job, queued, retrying
from tests.support.roles import ROLES, guarded

pytest_plugins = ["tests.support.ledger_fixtures"]
pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def server():
    with guarded() as made:
        made.make_roles()
        yield made


@pytest.fixture
def login(server):
    """The URL of each service's user."""
    return server.login


@pytest.fixture
async def keeper(server, clock):
    async with open_ledger(server.login("controlplane"), clock) as ledger:
        yield ledger
    server.psql("-c", "; ".join(str(table.delete()) for table in metadata.tables.values()))


async def test_jobapi_reads_jobs_and_writes_its_keys(login, keeper, clock):
    async with open_ledger(login("jobapi"), clock, migrates=False) as ledger, ledger.reader.watch("j1") as watcher:
        await keeper.writer.apply([retrying()])
        assert (await anext(watcher))[1].state is JobState.QUEUED
        assert (await ledger.reader.get("j1")).state is JobState.RETRYING
        assert len(await ledger.reader.history("j1")) == 3
        assert len((await ledger.reader.find(JobQuery(), 5, "")).items) == 1
        assert (await one_key.reserve(ledger.keys, "default", "k", b"d", "j2")).job_id == "j2"
        await one_key.confirm(ledger.keys, "default", "k")
        await one_key.release(ledger.keys, "default", "k", "j1")
        async with ledger.holds.hold(["j1"]) as hold:
            assert (await hold.ask(0)).begun == frozenset()
        with pytest.raises(Unavailable):
            await ledger.writer.apply([queued("j3")])
        with pytest.raises(Unavailable):
            await ledger.duplicate_guard.check(job("j3"), suspect=True)


async def test_a_worker_reads_jobs_and_counts_its_suspects(login, keeper, clock):
    await keeper.writer.apply([cancelled("off")])
    async with open_ledger(login("worker"), clock, migrates=False) as ledger:
        assert ledger.duplicate_guard.is_cancelled(job("off"))
        assert (await ledger.duplicate_guard.check(job(), suspect=True)).crashes == 0
        assert (await ledger.duplicate_guard.check(job(), suspect=True)).crashes == 1
        await ledger.duplicate_guard.clear_crashes(job())
        ledger.duplicate_guard.register_worker(lambda _: False, takes_jobs=True)
        async with keeper.holds.hold(["j1"]) as hold:
            assert (await hold.ask(1)).workers == 1
        with pytest.raises(Unavailable):
            await ledger.writer.apply([queued()])
        with pytest.raises(Unavailable):
            await one_key.reserve(ledger.keys, "default", "k", b"d", "j2")


@pytest.mark.parametrize("service", ["jobapi", "worker"])
async def test_neither_makes_tables_nor_reads_the_others(login, keeper, service):
    connection = await asyncpg.connect(login(service))
    try:
        for statement in ("CREATE TABLE mine (a int)", "SELECT * FROM job_revisions", "DELETE FROM jobs", "DROP TABLE jobs"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_control_plane_grants_what_a_newer_version_needs(server, clock):
    """Here: what somebody took away."""
    async with open_ledger(server.login("controlplane"), clock):
        pass
    server.psql("-c", "REVOKE ALL ON idempotency_keys, jobs FROM sickbay_jobapi")
    with pytest.raises(Unavailable):
        async with open_ledger(server.login("jobapi"), clock, migrates=False) as ledger:
            await one_key.reserve(ledger.keys, "default", "k", b"d", "j2")
    async with open_ledger(server.login("controlplane"), clock), open_ledger(server.login("jobapi"), clock, migrates=False) as ledger:
        assert (await one_key.reserve(ledger.keys, "default", "k", b"d", "j2")).job_id == "j2"
        await one_key.release(ledger.keys, "default", "k", "j2")


async def test_a_ledger_of_one_shared_user_is_taken_over(clock):
    """The tables belong to somebody else, and a job is in them; the file may be run twice."""
    with guarded() as server:
        async with open_ledger(server.url, clock) as ledger:
            await ledger.writer.apply([queued()])
        server.make_roles()
        server.make_roles()
        async with open_ledger(server.login("controlplane"), clock) as ledger, open_ledger(server.login("worker"), clock, migrates=False):
            assert (await ledger.reader.get("j1")).state is JobState.QUEUED
            await ledger.writer.apply([retrying()])
        owners = server.psql("-c", "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
        assert owners == "keeper"
        assert server.psql("-c", "SELECT rolname FROM pg_roles WHERE rolname IN ('keeper', 'jobapi', 'worker') AND rolsuper") == ""


def test_every_table_is_granted_by_its_name():
    tables = {*metadata.tables, "alembic_version"}
    assert {table for granted in GRANTS.values() for table in granted} <= tables
    told = ROLES.read_text()
    assert all(f"'{table}'" in told for table in tables), "or its owner is not changed"
