"""A primary and a standby change places, planned or not, while a ledger works with both. It heals by itself and loses nothing."""

import asyncio
import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.servers import PostgreSQL
from sickbay.adapters.sql import listener, postgres
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.pool import SIZE
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from tests.support.clock import ManualClock
from tests.support.ledger_events import queued, running, succeeded
from tests.support.postgres_pair import PostgresPair

pytestmark = pytest.mark.servers

PATIENCE_S = 120
DEMOTED = "default_transaction_read_only"


@pytest.fixture
def pair():
    """Fresh, and running."""
    if PostgreSQL.binary() is None:
        if os.environ.get("CI"):
            pytest.fail("these tests need PostgreSQL's programs: apt-get install postgresql")
        pytest.skip("these tests start two PostgreSQL of their own: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="sickbay-pair-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # for the user of the servers
        with PostgresPair(Path(name)) as made:
            yield made


@pytest.fixture
def hasty(monkeypatch):
    """What waits for a silent server gives up soon."""
    for name, seconds in {"STATEMENT_S": 1.0, "SLACK_S": 1.0, "CONNECT_S": 3.0}.items():
        monkeypatch.setattr(postgres, name, seconds)
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(listener, "ANSWER_S", 1.0)


@asynccontextmanager
async def opened(url, **options):
    async with open_ledger(url, ManualClock(), **options) as ledger:
        yield ledger


async def soon(awaited):
    async with asyncio.timeout(PATIENCE_S):
        return await awaited


async def eventually(act, wanted=lambda _: True):
    """Repeat until it does what is wanted; meanwhile it may say that the ledger is away, and nothing else."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if wanted(found := await act()):
                    return found
            except Unavailable:
                pass
            await asyncio.sleep(0.02)


async def write(ledger, event):
    await eventually(lambda: ledger.writer.apply([event]))


async def warm(ledger):
    """Fill the pool with sessions to the present primary."""
    await asyncio.gather(*(ledger.reader.get("j1") for _ in range(2 * SIZE)))


async def demote(pair):
    """The sessions stay alive, and are read-only; the standby becomes the primary."""
    await asyncio.to_thread(pair.one.reload, DEMOTED, "on")
    await asyncio.to_thread(pair.promote)


async def test_a_planned_switch(pair):
    """Writers go on, a watcher is told what is written to the new primary, and nothing stays with the old one."""
    async with opened(pair.url) as ledger, opened(pair.url) as other, ledger.reader.watch("j1") as watcher:
        await write(ledger, queued())
        assert (await anext(watcher))[1].state is JobState.QUEUED
        await warm(ledger)
        await asyncio.to_thread(pair.switch)
        await write(other, running())
        assert (await soon(anext(watcher)))[1].state is JobState.RUNNING
        assert (await eventually(lambda: ledger.reader.get("j1"))).state is JobState.RUNNING
        assert await asyncio.to_thread(pair.sessions, pair.one) == 0
        assert await asyncio.to_thread(pair.one.sql, "SELECT pg_is_in_recovery()") == "t"


async def test_reads_do_not_stay_on_a_demoted_primary(pair):
    """A process that only reads is never refused, so no refusal tells it that what it reads is old."""
    async with opened(pair.url) as other, opened(pair.url, migrates=False) as ledger:
        await write(other, queued())
        await warm(ledger)
        await demote(pair)
        await write(other, succeeded())
        found = await eventually(lambda: ledger.reader.get("j1"), lambda record: record.state is JobState.SUCCEEDED)
        assert found.state is JobState.SUCCEEDED
        for _ in range(20):
            assert (await ledger.reader.get("j1")).state is JobState.SUCCEEDED


async def test_the_listener_leaves_a_demoted_primary(pair, monkeypatch):
    """Although nobody here reads or writes anything meanwhile."""
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.5)
    async with opened(pair.url) as ledger, opened(pair.url) as other, ledger.reader.watch("j1") as watcher:
        await demote(pair)
        await write(other, queued())
        assert (await soon(anext(watcher)))[1].state is JobState.QUEUED
        await eventually(lambda: asyncio.to_thread(pair.sessions, pair.one), lambda sessions: sessions == 0)


async def test_what_was_durable_survives_a_kill(pair):
    """The primary is killed in the middle of writes. Each that was answered is there afterwards; the others raised Unavailable."""
    answered = []

    async def keep_writing(ledger, name):
        for number in range(100_000):
            job_id = f"{name}-{number}"
            await write(ledger, queued(job_id))
            answered.append(job_id)
            if ended.is_set():
                return

    ended = asyncio.Event()
    async with opened(pair.url) as ledger:
        writers = [asyncio.create_task(keep_writing(ledger, name)) for name in "abcd"]
        await eventually(lambda: asyncio.sleep(0), lambda _: len(answered) > 40)
        await asyncio.to_thread(pair.one.kill)
        before = len(answered)
        await asyncio.to_thread(pair.promote)
        await eventually(lambda: asyncio.sleep(0), lambda _: len(answered) > before + 40)
        ended.set()
        await asyncio.gather(*writers)
        await soon(ledger.link.wait_up())
    kept = set((await asyncio.to_thread(pair.two.sql, "SELECT job_id FROM jobs")).split())
    assert set(answered) <= kept


async def test_a_silent_first_host_is_passed_over(pair):
    """A new process finds the second one, though the first takes connections and says nothing; so does the next connection."""
    async with opened(pair.url) as ledger:
        await write(ledger, queued())
    await asyncio.to_thread(pair.one.freeze)
    await asyncio.to_thread(pair.promote)
    async with opened(pair.url) as ledger:
        await ledger.writer.apply([running()])
        assert (await ledger.reader.get("j1")).state is JobState.RUNNING


@pytest.mark.usefixtures("hasty")
async def test_a_primary_that_falls_silent_is_left(pair):
    """Pool and link have sessions to it that neither answer nor break."""
    async with opened(pair.url) as ledger, ledger.reader.watch("j1") as watcher:
        await warm(ledger)
        await asyncio.to_thread(pair.one.freeze)
        await asyncio.to_thread(pair.promote)
        await write(ledger, queued())
        assert (await soon(anext(watcher)))[1].state is JobState.QUEUED
        await write(ledger, running())
        await asyncio.to_thread(pair.one.thaw)
        for _ in range(20):
            assert (await ledger.reader.get("j1")).state is JobState.RUNNING


@pytest.mark.parametrize("fate", ["demoted", "silent", "killed"])
@pytest.mark.usefixtures("hasty")
async def test_the_lock_of_the_sweep_moves(pair, fate):
    """Whoever sweeps by a lock on the old primary is stopped; on the new one it is taken anew, and by one alone."""
    held = asyncio.Event()

    async def sweep(ledger):
        async with ledger.writer.sweep_lock() as alone:
            assert alone
            held.set()
            await asyncio.Event().wait()

    async def again(ledger):
        async with ledger.writer.sweep_lock() as alone, other.writer.sweep_lock() as beside:
            return alone, beside

    async with opened(pair.url) as ledger, opened(pair.url) as other:
        sweeping = asyncio.create_task(sweep(ledger))
        await held.wait()
        if fate == "demoted":
            await asyncio.to_thread(pair.one.reload, DEMOTED, "on")
        else:
            await asyncio.to_thread(pair.one.freeze if fate == "silent" else pair.one.kill)
        await asyncio.to_thread(pair.promote)
        with pytest.raises(Unavailable, match="this lock was lost"):
            await soon(sweeping)
        assert await eventually(lambda: again(ledger), lambda found: found[0]) == (True, False)
        assert await asyncio.to_thread(pair.holders, pair.two) == 0
        if fate == "demoted":
            await eventually(lambda: asyncio.to_thread(pair.holders, pair.one), lambda holders: holders == 0)


async def test_closing_does_not_wait_for_a_silent_primary(pair):
    """Neither for sessions in the pool, nor for a statement that is under way, nor for the listener."""
    async with asyncio.timeout(PATIENCE_S):
        async with opened(pair.url) as ledger:
            await warm(ledger)
            await asyncio.to_thread(pair.one.freeze)
            under_way = asyncio.create_task(ledger.writer.apply([queued()]))
            await asyncio.sleep(0)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < postgres.STATEMENT_S
        with pytest.raises(Unavailable):
            await under_way


async def test_while_no_server_takes_writes_it_is_said(pair, caplog):
    """The primary is gone and the standby not yet promoted: all is refused cleanly, also what would only read; then it comes up."""
    async with opened(pair.url) as ledger:
        await write(ledger, queued())
        await asyncio.to_thread(pair.one.kill)
        await eventually(lambda: asyncio.sleep(0), lambda _: "it accepts no writes" in caplog.text)
        for act in (ledger.reader.get("j1"), ledger.writer.apply([running()]), ledger.writer.counts()):
            with pytest.raises(Unavailable, match="the ledger is unavailable"):
                await act
        await asyncio.to_thread(pair.promote)
        await write(ledger, running())
        assert (await ledger.reader.get("j1")).state is JobState.RUNNING
    assert "Traceback" not in caplog.text


async def test_one_address_that_still_leads_to_a_standby(pair):
    """A name or a virtual address is moved before or after the promotion: a standby is not taken for the primary meanwhile."""
    async with opened(pair.url) as ledger:
        await write(ledger, queued())
    async with opened(PostgresPair.url_of(pair.two.port), patient=True) as ledger:
        with pytest.raises(Unavailable):
            await ledger.reader.get("j1")
        assert not ledger.link.is_up
        await asyncio.to_thread(pair.promote)
        await write(ledger, running())
        await soon(ledger.link.wait_up())
