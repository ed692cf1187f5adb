"""A job that is called off begins no further run, at whatever moment that is."""

import asyncio

from sickbay import JobError
from sickbay.domain.job import JobState
from tests.support.engine_bench import does, fine, job, open_bench
from worker.pipeline import SURE_MS


async def test_a_job_whose_cancellation_is_being_decided_waits():
    """Called off meanwhile, it is dropped without a permit; let go, it runs."""
    ran = []

    async def run(job):
        ran.append(job.job_id)

    async with open_bench(does(run)) as bench:
        for job_id in ("off", "on"):
            bench.fence.held[job_id] = asyncio.Event()
        off, on = bench.deliver(job("off")), bench.deliver(job("on"))
        await bench.run_one(job("other"))
        assert ran == ["other"]
        bench.fence.cancelled.add("off")
        for held in bench.fence.held.values():
            held.set()
        await asyncio.gather(off.settled.wait(), on.settled.wait())
        assert (off.verdict, on.verdict, ran) == ("ack", "ack", ["other", "on"])
        assert [permit.job_id for permit, _ in bench.breakers.outcomes] == ["other", "on"]


async def test_a_job_that_was_called_off_while_it_ran_has_no_other_run():
    """It failed: no copy goes to the retry queue or to quarantine."""

    async def run(job):
        bench.fence.cancelled.add(job.job_id)
        raise JobError("BAD", "no")

    async with open_bench(does(run)) as bench:
        assert await bench.run_one(job("retried")) == "ack"
        assert await bench.run_one(job("last", attempt=3)) == "ack"
        assert bench.broker.copies() == []
        assert {event.state for event in bench.broker.events()} <= {JobState.RUNNING}


async def test_a_run_counts_as_begun_until_its_job_is_settled():
    async def run(job):
        assert bench.fence.begun == ["j"]

    async with open_bench(does(run)) as bench:
        assert await bench.run_one(job()) == "ack"
        assert bench.fence.begun == []
        assert bench.fence.takes_jobs
        await bench.engine.drain(0)
        assert not bench.fence.takes_jobs


async def test_no_job_is_taken_before_the_cancellations_of_before_are_known():
    """A job that was cancelled while no worker was there would run: nothing but these tells a fresh copy of it from others."""
    ran = []

    async def run(job):
        ran.append(job.job_id)

    async with open_bench(does(run), knows=False) as bench:
        off, on = bench.deliver(job("off")), bench.deliver(job("on"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.broker.queue.qsize() == 2
        assert not bench.fence.takes_jobs
        bench.fence.cancelled.add("off")
        bench.fence.known.set()
        await asyncio.gather(off.settled.wait(), on.settled.wait())
        assert (off.verdict, on.verdict, ran) == ("ack", "ack", ["on"])


async def test_a_ledger_that_is_away_for_long_does_not_keep_jobs_from_running(caplog):
    async with open_bench(does(fine), knows=False, catch_up_s=0.0) as bench:
        assert await bench.run_one(job()) == "ack"
        assert "starts without knowing which jobs were cancelled before" in caplog.text


async def test_a_worker_that_waits_for_its_ledger_can_be_stopped():
    async with open_bench(does(fine), knows=False) as bench:
        await asyncio.sleep(0)
        await bench.engine.drain(30)
        async with asyncio.timeout(5):
            await bench.working


async def test_a_copy_that_waited_longer_than_memory_serves_is_compared_with_the_ledger():
    async with open_bench(does(fine)) as bench:
        bench.now = SURE_MS
        await bench.run_one(job())
        assert bench.fence.entered == []
        bench.now = SURE_MS + 1
        await bench.run_one(job())
        assert bench.fence.entered == [("j", False)]
