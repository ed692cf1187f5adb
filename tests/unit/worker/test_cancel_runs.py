"""Somebody asks to cancel a job that runs: its handler is told, then ended, and no other run follows."""

import asyncio
import threading

import pytest

from sickbay import JobError
from sickbay.domain.job import JobState
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.queries import DuplicateCheck
from tests.support.engine_bench import does, fine, job, open_bench


class Begun:
    """A handler's begin, which a test waits for, in whatever thread it is."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self):
        self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self):
        async with asyncio.timeout(5):
            await self._event.wait()


async def settled(delivery):
    async with asyncio.timeout(5):
        await delivery.settled.wait()
    return delivery.verdict


async def run_asked(bench, begun):
    """Run a job of which somebody asks to cancel the run; returns how it was settled."""
    delivery = bench.deliver(job())
    await begun.wait()
    bench.fence.ask_to_end("j")
    return await settled(delivery)


def last_event(bench):
    return bench.broker.events()[-1]


def kinds(bench):
    return [outcome.kind for _, outcome in bench.breakers.outcomes]


async def test_an_async_handler_that_waits_for_it_ends_at_once():
    begun = Begun()

    async def run(job):
        begun.set()
        await job.wait_cancelled()
        assert job.cancelled
        raise ValueError("stopped")

    async with open_bench(does(run, cancel_grace=60)) as bench:
        assert await run_asked(bench, begun) == "ack"
        event = last_event(bench)
        assert (event.state, event.code, event.message) == (JobState.CANCELLED, "CANCELLED", "its run ended with VALUE_ERROR: stopped")
        assert kinds(bench) == [OutcomeKind.CANCELLED], "the breaker learns nothing"
        assert bench.broker.copies() == []


async def test_an_async_handler_that_does_not_look_is_cancelled_after_its_grace():
    begun = Begun()

    async def run(job):
        begun.set()
        await asyncio.Event().wait()

    async with open_bench(does(run, cancel_grace=0.01)) as bench:
        assert await run_asked(bench, begun) == "ack"
        assert (last_event(bench).state, last_event(bench).message) == (JobState.CANCELLED, "its run was cancelled")


async def test_a_plain_handler_ends_by_itself():
    begun = Begun()

    def run(job):
        begun.set()
        assert job.cancel_event.wait(5)
        assert job.cancelled
        raise JobError("STOPPED")

    async with open_bench(does(run, cancel_grace=0.0)) as bench:
        assert await run_asked(bench, begun) == "ack"
        assert (last_event(bench).state, kinds(bench)) == (JobState.CANCELLED, [OutcomeKind.CANCELLED])


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_that_completes_all_the_same_has_succeeded(is_async):
    begun = Begun()

    async def waits(job):
        begun.set()
        await job.wait_cancelled()
        return {"done": 1}

    def plain(job):
        begun.set()
        job.cancel_event.wait(5)
        return {"done": 1}

    async with open_bench(does(waits if is_async else plain)) as bench:
        assert await run_asked(bench, begun) == "ack"
        assert (last_event(bench).state, last_event(bench).result.json) == (JobState.SUCCEEDED, b'{"done":1}')
        assert kinds(bench) == [OutcomeKind.SUCCESS]


async def test_a_handler_that_completes_while_it_is_cancelled_has_succeeded():
    begun = Begun()

    async def run(job):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"

    async with open_bench(does(run, cancel_grace=0.0)) as bench:
        await run_asked(bench, begun)
        assert last_event(bench).state is JobState.SUCCEEDED


async def test_a_timeout_that_comes_after_the_request_is_a_cancellation():
    begun, forever = Begun(), threading.Event()

    def run(job):
        begun.set()
        forever.wait(5)

    async with open_bench(does(run, timeout=0.1)) as bench:
        assert await run_asked(bench, begun) == "ack"
        assert (last_event(bench).state, kinds(bench)) == (JobState.CANCELLED, [OutcomeKind.CANCELLED])
        forever.set()


async def test_a_request_that_comes_after_the_timeout_ends_the_job_but_the_breaker_learns_of_the_timeout():
    expired = Begun()

    async def run(job):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            expired.set()
            await job.wait_cancelled()

    async with open_bench(does(run, timeout=0.02)) as bench:
        assert await run_asked(bench, expired) == "ack"
        assert last_event(bench).state is JobState.CANCELLED
        assert "HANDLER_TIMEOUT" in last_event(bench).message
        assert kinds(bench) == [OutcomeKind.SYSTEMIC]


async def test_a_drain_does_not_give_it_back():
    begun = Begun()

    async def run(job):
        begun.set()
        await asyncio.Event().wait()

    async with open_bench(does(run, cancel_grace=60)) as bench:
        delivery = bench.deliver(job())
        await begun.wait()
        bench.fence.ask_to_end("j")
        await bench.engine.drain(0)
        await bench.events.flush()
        assert delivery.verdict == "ack"
        assert last_event(bench).state is JobState.CANCELLED


async def test_a_second_request_changes_nothing():
    begun = Begun()

    async def run(job):
        begun.set()
        await job.wait_cancelled()
        raise ValueError

    async with open_bench(does(run)) as bench:
        delivery = bench.deliver(job())
        await begun.wait()
        bench.fence.ask_to_end("j")
        bench.fence.ask_to_end("j")
        assert await settled(delivery) == "ack"
        assert [event.state for event in bench.broker.events()].count(JobState.CANCELLED) == 1


@pytest.mark.parametrize("knows", [True, False], ids=["it has heard of it", "only the ledger knows"])
async def test_a_copy_of_a_worker_that_died_is_not_run(knows):
    async def run(job):
        raise AssertionError("it ran")

    async with open_bench(does(run)) as bench:
        if knows:
            bench.fence.to_end.add("j")
        else:
            bench.fence.entry = DuplicateCheck(superseded=False, is_to_end=True)
        delivery = bench.deliver(job(), redelivered=True)
        assert await settled(delivery) == "ack"
        assert (last_event(bench).state, last_event(bench).started_at) == (JobState.CANCELLED, None)
        assert bench.breakers.asked == []


async def test_a_copy_goes_back_if_its_end_cannot_be_published():
    """The ledger would not learn of it."""
    async with open_bench(does(fine)) as bench:
        bench.fence.to_end.add("j")
        bench.broker.failing = 10_000
        delivery = bench.deliver(job(), redelivered=True)
        while "publish failed" not in bench.log:
            await asyncio.sleep(0)
        assert delivery.verdict == "", "it is still the broker's"
        bench.broker.failing = 0
        assert await settled(delivery) == "ack"


async def test_it_is_asked_for_while_its_permit_is_awaited():
    async def run(job):
        raise AssertionError("it ran")

    async with open_bench(does(run)) as bench:
        admit = bench.breakers.admit

        async def slow(*args, **options):
            bench.fence.ask_to_end("j")
            return await admit(*args, **options)

        bench.breakers.admit = slow
        delivery = bench.deliver(job())
        assert await settled(delivery) == "ack"
        assert (last_event(bench).state, kinds(bench)) == (JobState.CANCELLED, [OutcomeKind.CANCELLED])


async def test_other_runs_are_not_touched():
    begun = Begun()

    async def run(job):
        begun.set()
        await job.wait_cancelled()

    async with open_bench(does(run, timeout=0.2)) as bench:
        delivery = bench.deliver(job("other"))
        await begun.wait()
        bench.fence.ask_to_end("j")
        await settled(delivery)
        assert kinds(bench) == [OutcomeKind.SYSTEMIC], "it ran into its timeout"


async def test_what_is_left_of_a_run_sees_that_it_is_over():
    seen, go_on = asyncio.get_running_loop().create_future(), threading.Event()
    loop = asyncio.get_running_loop()

    def run(job):
        go_on.wait(5)
        loop.call_soon_threadsafe(seen.set_result, (job.cancelled, job.cancel_event.is_set(), job.deadline))

    async with open_bench(does(run, timeout=0.05)) as bench:
        await bench.run_one(job())
        go_on.set()
        async with asyncio.timeout(5):
            assert await seen == (True, True, None)
