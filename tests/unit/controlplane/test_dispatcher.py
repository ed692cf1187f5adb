"""Scheduled jobs are sent when they are due: at once, each once, and again after whatever fails at any step."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from controlplane import dispatcher as module
from controlplane.dispatcher import BATCH, LOOK_S, Dispatcher
from controlplane.release import Releaser
from sickbay.adapters.sql.quarantine_store import LEASE_MS
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.workers import Fleet, Worker
from sickbay.ports import Queue
from sickbay.submission.lanes import LaneChoice
from tests.support.clock import START
from tests.support.embedded_backends import open_backends
from tests.support.known_fleet import KnownFleet
from tests.support.ledger_events import queued, scheduled
from tests.support.quarantine_events import take

LANED = Fleet(5_000, [Worker("w", "w", ("email",), lanes=True)], unannounced=0)
SECOND = 1_000


class SeenFleet(KnownFleet):
    """As `LaneChoice` looks at it."""

    is_new = True

    @property
    def seen(self):
        return LANED


def sender(backends, fleet=None, **options):
    known = SeenFleet(fleet) if fleet is not None else None
    releaser = Releaser(backends.broker, backends.quarantine, by=module.BY)
    return Dispatcher(backends.scheduled_jobs, backends.broker, releaser, LaneChoice(known), **options)


async def main_depth(backends):
    return await backends.broker.depth(Queue.MAIN)


async def states(backends):
    return {state: count for state, count in (await backends.writer.counts()).items() if count}


@asynccontextmanager
async def running(*dispatchers):
    tasks = [asyncio.create_task(one.run()) for one in dispatchers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(check):
    async with asyncio.timeout(10):
        while not await check():
            await asyncio.sleep(0.005)


async def test_what_is_due_is_sent_and_the_next_look_is_when_the_next_one_is():
    async with open_backends() as backends:
        sent = []
        dispatcher = sender(backends, on_sent=lambda: sent.append(1))
        assert await dispatcher.send_due() == LOOK_S
        await backends.writer.apply([scheduled("a"), scheduled("b", run_at=START + 1_400), scheduled("c", run_at=START + 9_000)])
        assert await dispatcher.send_due() == LOOK_S
        backends.clock.now += SECOND
        assert await dispatcher.send_due() == 0.4
        assert (await states(backends), sent) == ({JobState.SCHEDULED: 2, JobState.QUEUED: 1}, [1])
        (copy,) = await take(backends, Queue.MAIN, 1)
        assert copy == replace(scheduled("a").job, generation=1)


async def test_more_than_a_batch_is_sent_at_once():
    async with open_backends() as backends:
        await backends.writer.apply([scheduled(f"j{number}") for number in range(2 * BATCH + 10)])
        backends.clock.now += SECOND
        await sender(backends).send_due()
        assert await main_depth(backends) == 2 * BATCH + 10
        assert await states(backends) == {JobState.QUEUED: 2 * BATCH + 10}


@pytest.mark.parametrize(("priority", "queue"), [(Priority.HIGH, Queue.HIGH), (Priority.NORMAL, Queue.MAIN), (Priority.LOW, Queue.LOW)])
async def test_they_wait_in_the_lane_of_new_jobs(priority, queue):
    """Not behind the backlog of an outage, as released ones do."""
    async with open_backends() as backends:
        await backends.writer.apply([scheduled("a", priority=priority)])
        backends.clock.now += SECOND
        await sender(backends, LANED).send_due()
        assert await backends.broker.depth(queue) == 1


async def test_it_sends_while_it_runs_and_hears_of_an_earlier_one(monkeypatch):
    """An event that the ledger has taken, or a change by a person, ends its sleep; so does the time of the next one."""
    monkeypatch.setattr(module, "LOOK_S", 3_600.0)
    async with open_backends() as backends:
        dispatcher = sender(backends)
        async with running(dispatcher):
            await asyncio.sleep(0)
            await backends.writer.apply([scheduled("a", run_at=START - 5)])
            dispatcher.observe_events([queued("other")])
            dispatcher.observe_events([scheduled("a", run_at=START - 5)])
            await until(lambda: _is(main_depth(backends), 1))
            await backends.writer.apply([scheduled("b", run_at=START - 1)])
            dispatcher.wake()
            await until(lambda: _is(main_depth(backends), 2))
            await backends.writer.apply([scheduled("c", run_at=START + 50)])
            dispatcher.wake()
            await asyncio.sleep(0)
            backends.clock.now += 50
            await until(lambda: _is(main_depth(backends), 3))


async def _is(awaitable, value):
    return await awaitable == value


async def test_while_the_broker_is_away_nothing_is_leased_so_that_all_go_out_when_it_is_back(monkeypatch):
    """A lease would hold them up for half a minute."""
    monkeypatch.setattr(module, "FAILED_S", 0.005)
    async with open_backends() as backends:
        await backends.writer.apply([scheduled("a"), scheduled("b")])
        backends.clock.now += SECOND
        backends.broker.fail("depth", 5)
        async with running(sender(backends)):
            await until(lambda: _is(states(backends), {JobState.QUEUED: 2}))
        assert await backends.quarantine.lease_expired() == []
        assert [copy.maybe_duplicate for copy in await take(backends, Queue.MAIN, 2)] == [False, False]


@pytest.mark.parametrize("method", ["next_ms", "lease_due"])
async def test_while_the_ledger_is_away_they_wait(monkeypatch, method):
    monkeypatch.setattr(module, "FAILED_S", 0.005)
    async with open_backends() as backends:
        await backends.writer.apply([scheduled("a")])
        backends.clock.now += SECOND
        backends.scheduled_jobs.fail(method, 4)
        async with running(sender(backends)):
            await until(lambda: _is(states(backends), {JobState.QUEUED: 1}))
        assert await main_depth(backends) == 1


@pytest.mark.parametrize(
    ("part", "method", "after", "copies"),
    [
        ("scheduled_jobs", "lease_due", True, 1),
        ("broker", "publish", False, 1),
        ("broker", "publish", True, 2),
        ("quarantine", "mark_released", False, 2),
        ("quarantine", "mark_released", True, 1),
    ],
    ids=["leased", "not published", "published, not confirmed", "published", "finalised"],
)
async def test_a_cut_between_two_steps_loses_nothing(part, method, after, copies):
    """Whoever takes over the lease sends it; a second copy is marked, so that workers drop it."""
    async with open_backends() as backends:
        await backends.writer.apply([scheduled("a")])
        backends.clock.now += SECOND
        getattr(backends, part).fail(method, after=after)
        dispatcher = sender(backends)
        with pytest.raises(Unavailable):
            await dispatcher.send_due()
        assert await dispatcher.send_due() == LOOK_S, "its lease protects it"
        backends.clock.now += LEASE_MS + 1
        expired = await backends.quarantine.lease_expired()
        assert len(expired) == (not (method == "mark_released" and after))
        await Releaser(backends.broker, backends.quarantine, by="healer").release(expired)
        assert await states(backends) == {JobState.QUEUED: 1}
        assert await main_depth(backends) == copies
        found = await take(backends, Queue.MAIN, copies)
        assert {(copy.job_id, copy.generation) for copy in found} == {("a", 1)}
        assert sum(not copy.maybe_duplicate for copy in found) <= 1


async def test_three_share_the_work():
    """Each job is sent by one of them."""
    async with open_backends() as backends:
        await backends.writer.apply([scheduled(f"j{number}", run_at=START + number) for number in range(700)])
        backends.clock.now += SECOND
        async with running(*(sender(backends) for _ in range(3))):
            await until(lambda: _is(states(backends), {JobState.QUEUED: 700}))
        assert await main_depth(backends) == 700


async def test_it_goes_on_after_one_that_was_faster():
    async with open_backends() as backends:
        await backends.writer.apply([scheduled("a")])
        backends.clock.now += SECOND

        async def too_late(limit):
            return []

        dispatcher = sender(backends)
        monkey = backends.scheduled_jobs
        monkey.lease_due, kept = too_late, monkey.lease_due
        assert await dispatcher.send_due() == LOOK_S / 10
        monkey.lease_due = kept
        await dispatcher.send_due()
        assert await main_depth(backends) == 1
