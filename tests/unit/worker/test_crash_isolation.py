"""Jobs that may have killed their worker: who runs alone, and who is found out."""

import asyncio

import pytest

from sickbay.domain.job import JobState, Reason
from sickbay.domain.queries import DuplicateCheck
from tests.support.engine_bench import does, fails, fine, job, open_bench
from tests.support.flag import Flag
from worker import slots


@pytest.mark.parametrize(("deaths", "away", "together"), [(0, False, 3), (1, False, 1), (0, True, 1)])
async def test_suspects_run_alone_if_a_second_worker_died_of_them_or_nobody_can_tell(deaths, away, together):
    """Most of what a dead worker held is innocent; in any case others run beside them."""
    running, most, go = set(), [], Flag()

    async def handler(job):
        running.add(job.job_id)
        most.append({name for name in running if name.startswith("s")})
        if job.job_id == "fresh":
            go.set()
        await go.wait()
        running.discard(job.job_id)

    async with open_bench(does(handler)) as bench:
        bench.fence.deaths, bench.fence.away = deaths, away
        suspects = [bench.deliver(job(f"s{n}"), redelivered=True) for n in range(3)]
        fresh = bench.deliver(job("fresh"))
        await asyncio.gather(*(one.settled.wait() for one in [*suspects, fresh]))
        assert max(map(len, most)) == together
        assert sorted(bench.fence.left) == ["s0", "s1", "s2"]


async def test_a_job_that_killed_three_workers_is_quarantined():
    async with open_bench(does(fine)) as bench:
        bench.fence.entry = DuplicateCheck(superseded=False, crashes=1)
        await bench.run_one(job(), redelivered=True)
        assert bench.broker.events()[-1].state is JobState.SUCCEEDED
        bench.fence.entry = DuplicateCheck(superseded=False, crashes=2)
        await bench.run_one(job("another"), redelivered=True)
        assert bench.broker.events()[-1].reason is Reason.WORKER_LOST


async def test_a_suspect_whose_worker_lives_is_forgotten_even_if_its_settling_fails():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        bench.broker.failing_copies = 1
        assert await bench.run_one(job(), redelivered=True) == "nack"
        assert bench.fence.left == ["j"]


async def test_a_suspect_that_waits_too_long_for_its_turn_goes_back(monkeypatch):
    """To the head of the queue, still marked: here or elsewhere it gets another turn."""
    monkeypatch.setattr(slots, "MAX_WAIT_S", 0.01)
    begun, go = Flag(), Flag()

    async def slow(job):
        begun.set()
        await go.wait()

    async with open_bench(does(slow)) as bench:
        bench.fence.deaths = 1
        first = bench.deliver(job("first"), redelivered=True)
        await begun.wait()
        assert await bench.run_one(job("second"), redelivered=True) == "nack"
        assert bench.fence.entered == [("first", True)]
        go.set()
        await first.settled.wait()
        assert first.verdict == "ack"


async def test_a_suspect_that_was_held_too_long_stays_a_suspect():
    async with open_bench(does(fine)) as bench:
        assert await bench.run_one(job(), redelivered=True, held_s=1_700) == "nack"
        assert (bench.broker.copies(), bench.fence.left) == ([], ["j"])
