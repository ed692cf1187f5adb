"""Watching a job: every change, in order, from the moment of entering on (`JobReader.watch`)."""

import asyncio

import pytest

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.subscribers import Subscribers
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import ErrorReason, Unavailable
from sickbay.domain.job import JobRecord, JobState, StateChange
from tests.support.ledger_events import START, job, parked, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]


async def take(watcher, number):
    return [await anext(watcher) for _ in range(number)]


def states(news):
    return [(change.state, change.attempt) for _, change in news]


async def test_a_run_that_nobody_announced_is_told_at_its_end(ledger):
    async with ledger.reader.watch("j1") as watcher:
        await ledger.writer.apply([queued(), retrying(), succeeded(attempt=1)])
        news = await take(watcher, 5)
    assert states(news) == [
        (JobState.QUEUED, 0),
        (JobState.RUNNING, 0),
        (JobState.RETRYING, 1),
        (JobState.RUNNING, 1),
        (JobState.SUCCEEDED, 1),
    ]
    assert [record.state for record, _ in news] == [change.state for _, change in news]
    assert news[1][1].at == START + 150


async def test_an_announced_run_is_told_once(ledger):
    async with ledger.reader.watch("j1") as watcher:
        await ledger.writer.apply([queued(), running()])
        await ledger.writer.apply([succeeded()])
        await ledger.writer.apply([parked(generation=1)])
        assert states(await take(watcher, 4)) == [
            (JobState.QUEUED, 0),
            (JobState.RUNNING, 0),
            (JobState.SUCCEEDED, 0),
            (JobState.PARKED, 0),
        ]


async def test_what_changes_nothing_is_not_told(ledger):
    await ledger.writer.apply([succeeded()])
    async with ledger.reader.watch("j1") as watcher:
        await ledger.writer.apply([queued(), succeeded(), succeeded("other")])
        await ledger.writer.apply([parked(generation=1)])
        assert states(await take(watcher, 1)) == [(JobState.PARKED, 0)]


async def test_the_last_record_told_is_what_the_ledger_says(ledger):
    async with ledger.reader.watch("j1") as watcher:
        await ledger.writer.apply([queued(), parked()])
        news = await take(watcher, 2)
    assert news[-1][0] == await ledger.reader.get("j1")


async def test_a_release_and_a_discard_are_told(ledger):
    await ledger.writer.apply([parked("j1"), parked("j2")])
    async with ledger.reader.watch("j1") as first, ledger.reader.watch("j2") as second:
        await ledger.quarantine.mark_released(await ledger.quarantine.lease_parked(BreakerKey("email"), 1))
        await ledger.quarantine.discard("j2", "", "ann")
        assert states(await take(first, 1)) == [(JobState.QUEUED, 0)]
        assert (await take(second, 1))[0][1].actor == "ann"


async def test_all_watchers_of_a_job_hear_and_leaving_ends(ledger):
    async with ledger.reader.watch("j1") as stays:
        async with ledger.reader.watch("j1"):
            await ledger.writer.apply([queued()])
        await ledger.writer.apply([running()])
        assert states(await take(stays, 2)) == [(JobState.QUEUED, 0), (JobState.RUNNING, 0)]


async def test_a_watcher_waits_for_news(ledger):
    async with ledger.reader.watch("j1") as watcher:
        waiting = asyncio.create_task(anext(watcher))
        await ledger.writer.apply([queued()])
        _, change = await waiting
        assert change.state is JobState.QUEUED


async def test_a_watch_begins_between_two_writes(tmp_path, clock):
    """Else a write that looked for watchers before, and commits after, would be missed by somebody who reads in between."""
    async with open_ledger(f"sqlite:///{tmp_path}/ledger.db", clock) as ledger:
        watching = ledger.reader.watch("j1")
        async with ledger.reader._store.write():
            entering = asyncio.create_task(watching.__aenter__())
            await ledger.reader.get("j1")
            assert not entering.done()
        await entering
        await watching.__aexit__(None, None, None)


async def test_a_watch_ends_with_the_ledger(url, clock):
    async with open_ledger(url, clock) as ledger:
        watching = ledger.reader.watch("j1")
        watcher = await watching.__aenter__()
    with pytest.raises(Unavailable) as caught:
        await anext(watcher)
    assert caught.value.reason is ErrorReason.SHUTTING_DOWN
    await watching.__aexit__(None, None, None)


async def test_a_watcher_that_lags_is_cut_off_after_what_it_has():
    hub = Subscribers(limit=2)
    watcher = hub.add("j1")
    change = StateChange(START, JobState.QUEUED, 0, 0)
    hub.publish([(JobRecord(job(), JobState.QUEUED, START), change)] * 3)
    assert len(await take(watcher, 2)) == 2
    with pytest.raises(Unavailable, match="too far behind"):
        await anext(watcher)


async def test_a_write_of_unknown_fate_cuts_those_who_watch_its_jobs():
    """It may have happened and was not told: only reading again can say."""
    hub = Subscribers()
    watcher, other = hub.add("j1"), hub.add("j2")
    with pytest.raises(Unavailable), hub.cut_off_on_failure(["j1"]):
        raise Unavailable("gone")
    with pytest.raises(Unavailable, match="missed"):
        await anext(watcher)
    hub.publish([(JobRecord(job("j2"), JobState.QUEUED, START), StateChange(START, JobState.QUEUED, 0, 0))])
    assert len(await take(other, 1)) == 1
