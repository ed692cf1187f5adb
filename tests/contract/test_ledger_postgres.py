"""One ledger on PostgreSQL, written and watched by several processes."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from sickbay.adapters.sql import database
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Unavailable, Unstorable
from sickbay.domain.job import JobState
from tests.support.ledger_events import cancelled, job, parked, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]
pytestmark = pytest.mark.servers

EMAIL = BreakerKey("email")
BLOCKED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

OURS = "datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
KILL_ALL = f"SELECT pg_terminate_backend(pid, $1) FROM pg_stat_activity WHERE {OURS}"  # noqa: S608 - written here


@pytest.fixture
async def fleet(postgres, clock):
    """A control plane, and another process that only reads: its ledger makes no tables."""
    async with AsyncExitStack() as stack:
        keeper = await stack.enter_async_context(open_ledger(postgres.url, clock))
        yield keeper, await stack.enter_async_context(open_ledger(postgres.url, clock, migrates=False))


async def take(watcher, number):
    async with asyncio.timeout(10):
        return [await anext(watcher) for _ in range(number)]


def states(news):
    return [(change.state, change.generation, change.attempt) for _, change in news]


async def blocked(postgres):
    """Wait until a transaction waits for a lock."""
    while not (rows := await asyncio.to_thread(postgres.sql, BLOCKED)):
        await asyncio.sleep(0)
    return rows[0]["pid"]


async def test_another_process_hears_everything_in_order(fleet):
    keeper, other = fleet
    async with other.reader.watch("j1") as watcher:
        await keeper.writer.apply([queued(), running()])
        await keeper.writer.apply([retrying()])
        await keeper.writer.apply([parked(attempt=1)])
        await keeper.quarantine.mark_released(await keeper.quarantine.lease_parked(EMAIL, 1))
        await keeper.writer.apply([succeeded(generation=1, attempt=1)])
        news = await take(watcher, 7)
    assert states(news) == [
        (JobState.QUEUED, 0, 0),
        (JobState.RUNNING, 0, 0),
        (JobState.RETRYING, 0, 1),
        (JobState.PARKED, 0, 1),
        (JobState.QUEUED, 1, 1),
        (JobState.RUNNING, 1, 1),
        (JobState.SUCCEEDED, 1, 1),
    ]
    assert news[-1][0] == await other.reader.get("j1")
    assert news[2][1].code == "API_TIMEOUT"


async def test_a_discard_is_heard_with_who_did_it(fleet):
    keeper, other = fleet
    await keeper.writer.apply([parked()])
    async with other.reader.watch("j1") as watcher:
        record = await keeper.quarantine.discard("j1", "", "ann")
        ((told, change),) = await take(watcher, 1)
    assert (told, change.state, change.actor) == (record, JobState.DISCARDED, "ann")


async def test_a_batch_beyond_one_notification_is_heard_whole(fleet):
    keeper, other = fleet
    ids = [f"{'long-' * 20}{number}" for number in range(400)]
    async with other.reader.watch(ids[0]) as first, other.reader.watch(ids[-1]) as last:
        await keeper.writer.apply([succeeded(job_id) for job_id in ids])
        assert len(await take(first, 3)) == len(await take(last, 3)) == 3


@pytest.mark.parametrize("odd", ["two\nlines", "x" * 9_000])
async def test_a_job_that_fits_no_notification_is_heard_nevertheless(fleet, odd):
    keeper, other = fleet
    async with other.reader.watch(odd) as watcher:
        await keeper.writer.apply([queued(odd)])
        assert states(await take(watcher, 1)) == [(JobState.QUEUED, 0, 0)]


async def test_a_write_under_way_at_the_entering_is_heard(fleet, postgres, clock):
    """It began before, and commits after: the watcher did not read it, so it must be told."""
    keeper, other = fleet
    await keeper.writer.apply([queued()])
    async with keeper.writer._store.write() as holding:
        await keeper.writer._store.lock(holding, ["j1"])
        writing = asyncio.create_task(keeper.writer.apply([running()]))
        await blocked(postgres)
        watching = other.reader.watch("j1")
        watcher = await watching.__aenter__()
    await writing
    assert states(await take(watcher, 1)) == [(JobState.RUNNING, 0, 0)]
    await watching.__aexit__(None, None, None)


async def test_a_success_that_the_next_write_replaced_is_told(fleet, monkeypatch):
    """Both writes are there before the watcher's process gets to read; the tables have forgotten the first."""
    keeper, other = fleet
    feed, may_read = other.reader._feed, asyncio.Event()
    read = feed._rows

    async def read_late(job_ids):
        await may_read.wait()
        return await read(job_ids)

    async with other.reader.watch("j1") as watcher:
        monkeypatch.setattr(feed, "_rows", read_late)
        await keeper.writer.apply([succeeded()])
        await keeper.writer.apply([queued(generation=1)])
        may_read.set()
        assert states(await take(watcher, 4)) == [
            (JobState.QUEUED, 0, 0),
            (JobState.RUNNING, 0, 0),
            (JobState.SUCCEEDED, 0, 0),
            (JobState.QUEUED, 1, 0),
        ]


async def test_a_cancellation_is_known_everywhere(fleet):
    """Notifications come in the order of commits: who heard of the second write has heard of the first."""
    keeper, other = fleet
    async with other.reader.watch("j2") as watcher:
        await keeper.writer.apply([queued("j1"), cancelled("j1"), succeeded("late"), cancelled("late")])
        await keeper.writer.apply([queued("j2")])
        await take(watcher, 1)
    assert other.duplicate_guard.is_cancelled(job("j1"))
    assert not other.duplicate_guard.is_cancelled(job("late"))


async def test_two_keepers_and_a_release_do_not_stop_each_other(postgres, clock):
    """The same rows, asked for in different orders by many transactions at once: none is the victim of a deadlock."""
    events = [event for number in range(60) for event in (queued(f"j{number}"), parked(f"j{number}"))]
    async with open_ledger(postgres.url, clock) as one, open_ledger(postgres.url, clock) as two:
        await one.writer.apply(events)
        claims = await one.quarantine.lease_parked(EMAIL, 60)
        told = [ledger.writer.apply(order) for order in (events, events[::-1]) for ledger in (one, two, one, two)]
        await asyncio.gather(*told, one.quarantine.mark_released(claims[::-1]), two.quarantine.mark_released(claims))
        counts = await one.writer.counts()
        assert (counts[JobState.QUEUED], counts[JobState.PARKED]) == (60, 0)
        assert await two.writer.duplicates() == 0


async def test_a_transaction_killed_half_way_is_unavailable_and_undone(fleet, postgres):
    keeper, other = fleet
    await keeper.writer.apply([queued()])
    async with keeper.writer._store.write() as holding:
        await keeper.writer._store.lock(holding, ["j1"])
        writing = asyncio.create_task(other.writer.apply([queued("a"), running("j1"), queued("z")]))
        postgres.sql("SELECT pg_terminate_backend($1)", await blocked(postgres))
        with pytest.raises(Unavailable, match=r"^the ledger is unavailable; nothing is lost, try again later$"):
            await writing
    assert await other.reader.get("a") is None
    await other.writer.apply([queued("a"), running("j1")])
    assert (await keeper.reader.get("j1")).state is JobState.RUNNING


async def test_an_idle_connection_that_was_killed_is_replaced(fleet, postgres):
    """Nobody is handed a connection that the server has closed."""
    keeper, _ = fleet
    lost = asyncio.Event()
    async with keeper.reader._store.read() as connection:
        (await connection.get_raw_connection()).driver_connection.add_termination_listener(lambda _: lost.set())
    postgres.sql(KILL_ALL, 5_000)
    await lost.wait()
    assert await keeper.reader.get("j1") is None
    await keeper.writer.apply([queued()])


async def test_a_turn_at_sweeping_that_could_not_be_given_back_is_over_all_the_same(postgres, clock, monkeypatch):
    """The pool must not keep a connection whose session still has the turn: nobody else would ever get it."""
    async with open_ledger(postgres.url, clock) as one, open_ledger(postgres.url, clock) as other:
        with monkeypatch.context() as patched:
            patched.setattr(database, "_UNLOCK", text("SELECT length(:what) / 0"))
            with pytest.raises((Unavailable, Unstorable)):
                async with one.writer.sweep_lock():
                    pass
        async with asyncio.timeout(10):
            while not await has_turn(other):
                await asyncio.sleep(0)


async def has_turn(ledger):
    async with ledger.writer.sweep_lock() as alone:
        return alone
