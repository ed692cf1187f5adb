"""A payload is in memory for as long as its job is held, and what waits for a turn of one type leaves room for the others."""

import asyncio
import gc

import pytest

from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.job import Job
from sickbay.handlers.registry import HandlerSpec
from worker.run import Run
from worker.runner import Runner
from worker.slots import Gates, Slots

PERMIT = Permit(BreakerKey("email"), PermitKind.NORMAL, 1, "j")


async def on_loop(job):
    await asyncio.sleep(0)


def in_thread(job):
    return None


def leads_back(job):
    return on_loop(job)


@pytest.mark.parametrize("function", [on_loop, in_thread, leads_back])
async def test_a_run_that_is_over_lets_go_of_its_job(function):
    """By itself: bytes do not hasten the collection of cycles, so hundreds of large payloads would gather before one came."""
    runner = Runner(None, timeout_s=5.0, concurrency=2)
    gc.collect()
    gc.disable()
    try:
        jobs = [Job(f"j{number}", "email") for number in range(5)]
        for job in jobs:
            await runner.run(HandlerSpec("email", function), job, PERMIT)
        await runner.run(HandlerSpec("email", function), Job("last", "email"), PERMIT)
        runs = [found for found in gc.get_objects() if type(found) is Run]  # isinstance asks objects that other tests have made hostile
        assert not {found.job.job_id for found in runs} & {job.job_id for job in jobs[:-1]}
    finally:
        gc.enable()
        runner.close()


async def test_what_waits_for_a_turn_is_a_crowd_by_its_bytes_too():
    """A few large jobs of a slow type must not take all that the worker may hold."""
    gates, slots = Gates({"slow": 1}, crowd=100, crowd_bytes=1_000), Slots(10)

    async def waits(size):
        async with gates.turn("slow", slots, size):
            pass

    async with gates.turn("slow", slots, 900):
        waiting = [asyncio.create_task(waits(600)) for _ in range(2)]
        await asyncio.sleep(0)
        assert gates.is_crowded("slow")
        assert not gates.is_crowded("other")
    await asyncio.gather(*waiting)
    assert not gates.is_crowded("slow")
