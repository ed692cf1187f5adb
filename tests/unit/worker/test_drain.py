"""The end of a worker: what runs may finish, what waits goes on to others, and nothing keeps it for ever."""

import asyncio
import contextlib

from sickbay.domain.outcome import OutcomeKind
from tests.support.engine_bench import does, fine, job, open_bench
from tests.support.flag import Flag


async def test_a_drain_lets_the_running_job_finish_and_takes_no_more():
    begun, go = Flag(), Flag()

    async def handler(job):
        begun.set()
        await go.wait()

    async with open_bench(does(handler)) as bench:
        running = bench.deliver(job())
        await begun.wait()
        drain = asyncio.create_task(bench.engine.drain(30))
        await bench.broker.stopped.wait()
        later = bench.deliver(job("later"))
        go.set()
        await drain
        await running.settled.wait()
        assert (running.verdict, later.verdict) == ("ack", "")


async def test_a_job_broken_off_by_the_drain_goes_back_uncharged():
    begun = Flag()

    async def handler(job):
        begun.set()
        await asyncio.Event().wait()

    async with open_bench(does(handler)) as bench:
        delivery = bench.deliver(job())
        await begun.wait()
        await bench.engine.drain(0)
        assert delivery.verdict == "nack"
        assert [outcome.kind for _, outcome in bench.breakers.outcomes] == [OutcomeKind.CANCELLED]
        assert bench.broker.copies() == []


async def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_drain():
    begun, release = Flag(), Flag()

    async def stubborn(job):
        begun.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async with open_bench(does(stubborn), concurrency=1) as bench:
        delivery = bench.deliver(job())
        await begun.wait()
        await bench.engine.drain(0)
        await bench.working
        assert bench.engine.is_stuck
        assert not delivery.verdict, "its job is neither done nor given back: it comes again when this process is gone"
        release.set()
        await delivery.settled.wait()


async def test_events_that_the_broker_does_not_take_do_not_keep_the_drain():
    async with open_bench(does(fine)) as bench:
        bench.broker.failing = 1_000
        delivery = bench.deliver(job())
        while not {"settled success", "publish failed"} <= set(bench.broker.log):
            await asyncio.sleep(0)
        await bench.engine.drain(0)
        await bench.working
        assert not bench.engine.is_stuck
        assert not delivery.verdict
        bench.broker.failing = 0


async def test_a_drain_hands_on_what_waits_for_its_types_turn():
    """What has not begun begins elsewhere, unmarked; what runs may finish."""
    begun, go = Flag(), Flag()

    async def slow(job):
        begun.set()
        await go.wait()

    async with open_bench(does(slow, concurrency=1)) as bench:
        first, second = bench.deliver(job("first")), bench.deliver(job("second"))
        await begun.wait()
        while not bench.engine._gates.waiting("email"):
            await asyncio.sleep(0)
        draining = asyncio.create_task(bench.engine.drain(60))
        await second.settled.wait()
        assert (second.verdict, first.verdict) == ("ack", "")
        assert [copy.job_id for copy in bench.broker.copies()] == ["second"]
        go.set()
        await draining
        await first.settled.wait()
        assert first.verdict == "ack"
