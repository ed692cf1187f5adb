"""What `roles.sql` grants is enough for each service, and no more."""

import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sickbay.adapters import sql
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.errors import Unavailable
from sickbay.job import State
from sickbay.queries import JobQuery
from tests.contract.ledger_events import cancelled, job, queued, retrying

pytest_plugins = ["tests.contract.ledger_fixtures"]
pytestmark = pytest.mark.servers

ROLES = Path(sql.__file__).with_name("roles.sql")
SERVICES = ("jobapi", "worker")


@pytest.fixture
def login(postgres):
    """A URL for a service whose user has just the role that `roles.sql` makes for it, under names of our own."""
    prefix = f"t{uuid.uuid4().hex[:12]}"
    postgres.sql(ROLES.read_text().replace("sickbay_", f"{prefix}_"))
    for service in SERVICES:
        postgres.sql(f"CREATE ROLE {prefix}_{service}_1 LOGIN PASSWORD 'secret' IN ROLE {prefix}_{service}")
    yield lambda service: _as(postgres.url, f"{prefix}_{service}_1")
    for service in SERVICES:
        postgres.sql(f"DROP ROLE {prefix}_{service}_1")
        postgres.sql(f"DROP OWNED BY {prefix}_{service}; DROP ROLE {prefix}_{service}")


def _as(url, user):
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:secret@{parts.netloc.rpartition('@')[2]}").geturl()


@pytest.fixture
async def keeper(postgres, clock):
    async with open_ledger(postgres.url, clock) as ledger:
        yield ledger


async def test_jobapi_reads_jobs_and_writes_its_keys(login, keeper, clock):
    async with open_ledger(login("jobapi"), clock, migrates=False) as ledger, ledger.reader.watch("j1") as watcher:
        await keeper.writer.apply([retrying()])
        assert (await anext(watcher))[1].state is State.QUEUED
        assert (await ledger.reader.get("j1")).state is State.RETRYING
        assert len(await ledger.reader.history("j1")) == 3
        assert len((await ledger.reader.find(JobQuery(), 5, "")).items) == 1
        assert (await ledger.keys.reserve("default", "k", b"d", "j2")).job_id == "j2"
        await ledger.keys.confirm("default", "k")
        await ledger.keys.release("default", "k")
        with pytest.raises(Unavailable):
            await ledger.writer.apply([queued("j3")])
        with pytest.raises(Unavailable):
            await ledger.fence.enter(job("j3"), suspect=True)


async def test_a_worker_reads_jobs_and_counts_its_suspects(login, keeper, clock):
    await keeper.writer.apply([cancelled("off")])
    async with open_ledger(login("worker"), clock, migrates=False) as ledger:
        assert ledger.fence.is_cancelled(job("off"))
        assert (await ledger.fence.enter(job(), suspect=True)).crashes == 0
        assert (await ledger.fence.enter(job(), suspect=True)).crashes == 1
        await ledger.fence.leave(job())
        with pytest.raises(Unavailable):
            await ledger.writer.apply([queued()])
        with pytest.raises(Unavailable):
            await ledger.keys.reserve("default", "k", b"d", "j2")
