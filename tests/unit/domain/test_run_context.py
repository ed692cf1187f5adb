"""What a handler can ask of its job while that runs, and what it gets outside of a run."""

import asyncio
import logging
import threading
from datetime import UTC, datetime

import pytest

from sickbay import Job
from sickbay.domain.run_context import RunContext, bind, is_bound, unbind

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


def test_outside_of_a_run_nothing_ends():
    job = Job("j", "email")
    assert (job.cancelled, job.deadline, job.cancel_event.is_set(), is_bound(job)) == (False, None, False, False)


async def test_outside_of_a_run_waiting_goes_on():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await Job("j", "email").wait_cancelled()


def test_the_deadline_is_in_utc():
    job = Job("j", "email")
    bind(job, RunContext(deadline_ms=1_700_000_000_123))
    assert job.deadline == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    unbind(job)
    assert job.deadline is None


async def test_whoever_waits_is_woken_in_whatever_thread():
    job, run = Job("j", "email"), RunContext()
    bind(job, run)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(job.cancel_event.wait(5))) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting = [asyncio.create_task(job.wait_cancelled()) for _ in range(2)]
    await asyncio.sleep(0)
    run.cancel()
    run.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
        await job.wait_cancelled()
    for thread in threads:
        thread.join()
    assert (seen, job.cancelled) == ([True, True], True)


@pytest.mark.parametrize("asks_before", [True, False])
def test_what_is_left_of_a_run_sees_its_end(asks_before):
    job = Job("j", "email")
    bind(job, RunContext())
    event = job.cancel_event if asks_before else None
    unbind(job)
    assert (event or job.cancel_event).is_set()
    assert job.cancelled


def test_lines_have_the_job(caplog):
    job = Job("j", "email", tenant="acme", attempt=2, generation=1, trace=TRACE)
    job.log.warning("%s", "outside")
    bind(job, RunContext(run="w.7"))
    job.log.warning("inside", extra={"attempt": "mine", "size": 3})
    outside, inside = caplog.records
    assert (outside.getMessage(), outside.name, outside.levelno) == ("outside", "job.email", logging.WARNING)
    assert (outside.job_id, outside.job_type, outside.tenant, outside.attempt, outside.generation) == ("j", "email", "acme", 2, 1)
    assert outside.trace_id == "ab" * 16
    assert not hasattr(outside, "run")
    assert (inside.run, inside.attempt, inside.size, inside.tenant) == ("w.7", "mine", 3, "acme")
