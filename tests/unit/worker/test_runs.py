"""How a handler runs: on the loop or in a thread, under its timeout, as a probe, and a few of its type at a time."""

import asyncio
import threading

import pytest

from sickbay.domain.breaker import PermitKind
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.retry import RetryPolicy, same_for_all
from tests.support.engine_bench import TRACE, does, fails, fine, job, open_bench
from tests.support.flag import Flag
from worker import slots
from worker.settler import DEFERRALS


async def test_a_sync_handler_runs_in_a_thread():
    seen = []

    async with open_bench(does(lambda job: seen.append((threading.current_thread().name, job.payload)))) as bench:
        assert await bench.run_one(job()) == "ack"
        assert seen[0][0].startswith("handler")
        assert seen[0][1] == {"a": 1}


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_that_takes_too_long_is_a_systemic_failure(is_async):
    release = threading.Event()

    async def slow(job):
        await asyncio.Event().wait()

    async with open_bench(does(slow if is_async else lambda job: release.wait(), timeout=0.01)) as bench:
        await bench.run_one(job())
        assert [(outcome.code, outcome.kind) for _, outcome in bench.breakers.outcomes] == [("HANDLER_TIMEOUT", OutcomeKind.SYSTEMIC)]
        assert bench.runner.overdue == (0 if is_async else 1)
        release.set()


async def test_a_timeout_inside_the_handler_is_the_dependencys():
    async def times_out(job):
        raise TimeoutError

    async with open_bench(does(times_out, timeout=5)) as bench:
        await bench.run_one(job())
        assert bench.breakers.outcomes[0][1].code == "API_TIMEOUT"


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, RuntimeError])
async def test_whatever_a_handler_raises_is_an_outcome(error):
    async def raises(job):
        raise error

    async with open_bench(does(raises)) as bench:
        assert await bench.run_one(job()) == "ack"
        assert bench.breakers.outcomes[0][1].kind is OutcomeKind.UNKNOWN


async def test_a_probes_lease_is_renewed_while_it_runs():
    go = Flag()

    async def handler(job):
        await go.wait()

    async with open_bench(does(handler)) as bench:
        bench.breakers.kind = PermitKind.PROBE
        delivery = bench.deliver(job())
        permits = [await bench.breakers.renewals.get(), await bench.breakers.renewals.get()]
        go.set()
        await delivery.settled.wait()
        assert {permit.token for permit in permits} == {"t"}


async def test_a_type_runs_no_more_jobs_at_a_time_than_it_allows_and_blocks_no_other():
    running, most = [], []
    go = Flag()

    async def slow(job):
        running.append(job)
        most.append(len(running))
        await go.wait()
        running.remove(job)

    other = does(fine)
    other = type(other)("sms", fine)
    async with open_bench(does(slow, concurrency=2), other, concurrency=4) as bench:
        emails = [bench.deliver(job(f"e{n}")) for n in range(6)]
        assert await bench.run_one(body=b'{"jobType": "sms", "payload": {}}') == "ack"
        go.set()
        await asyncio.gather(*(one.settled.wait() for one in emails))
        assert max(most) == 2


async def test_a_job_that_waits_too_long_for_its_turn_comes_again_later(monkeypatch):
    """Uncharged, through the retry queue: RabbitMQ takes back what a worker holds for half an hour."""
    monkeypatch.setattr(slots, "MAX_WAIT_S", 0.01)
    go = Flag()

    async def slow(job):
        await go.wait()

    async with open_bench(does(slow, concurrency=1)) as bench:
        first = bench.deliver(job("first"))
        assert await bench.run_one(job("second")) == "ack"
        assert [(copy.job_id, copy.attempt, copy.failures) for copy in bench.broker.copies()] == [("second", 0, ())]
        go.set()
        await first.settled.wait()


@pytest.mark.parametrize(
    ("own_timeout", "held_s", "runs"), [(None, 1_674, True), (None, 1_676, False), (1_500, 179, True), (1_500, 181, False)]
)
async def test_a_run_that_could_outlast_the_broker_s_patience_does_not_begin(own_timeout, held_s, runs):
    """Waiting counts: 28 minutes from when the message came to the end of the timeout. It comes again later, uncharged."""
    seen = []

    async def note(job):
        seen.append(job.job_id)

    async with open_bench(does(note, timeout=own_timeout)) as bench:
        assert await bench.run_one(job(), held_s=held_s) == "ack"
        assert seen == (["j"] if runs else [])
        assert [(copy.job_id, copy.attempt) for copy in bench.broker.copies()] == ([] if runs else [("j", 0)])


async def test_a_job_that_is_put_off_keeps_its_headers():
    async with open_bench(does(fine)) as bench:
        await bench.run_one(job(), headers=TRACE, held_s=slots.MAX_HELD_S)
        (copy,) = [message for message in bench.broker.published if message.key == "retry"]
        assert copy.headers == {**TRACE, DEFERRALS: "1"}


async def test_a_job_that_is_put_off_again_and_again_waits_ever_longer():
    """From RETRY_DELAY_MS to 30 s, for as long as nothing else becomes of it; what foreign headers say is bounded."""
    async with open_bench(does(fine)) as bench:
        headers = dict(TRACE)
        for first in ("6", "7", "100", "-1", "\u0663", "9" * 5_000, "many", ""):
            await bench.run_one(job(), headers={DEFERRALS: first}, held_s=slots.MAX_HELD_S)
        for _ in range(4):
            await bench.run_one(job(), headers=headers, held_s=slots.MAX_HELD_S)
            headers = bench.broker.published[-1].headers
        await bench.run_one(job(), headers={DEFERRALS: "99"}, held_s=slots.MAX_HELD_S)
        delays = [message.delay_ms for message in bench.broker.published if message.key == "retry"]
        assert headers == {**TRACE, DEFERRALS: "4"}
        assert bench.broker.published[-1].headers == {DEFERRALS: "99"}
        wanted = (30, 30, 5, 5, 5, 5, 5, 5, 5, 10, 20, 30, 30)
        assert [800 * s <= delay <= min(1_200 * s, 30_000) for delay, s in zip(delays, wanted, strict=True)] == [True] * 13
        assert len({delay for delay in delays if delay < 6_000}) > 3, "spread by chance"


async def test_a_job_is_never_put_off_without_a_pause():
    """RETRY_DELAY_MS may be 0, or a day."""
    for delay_ms, least, most in ((0, 80, 120), (86_400_000, 69_120_000, 86_400_000)):
        async with open_bench(does(fine)) as bench:
            bench.engine._settler._policy = same_for_all(RetryPolicy(3, delay_ms))
            await bench.run_one(job(), held_s=slots.MAX_HELD_S)
            (copy,) = [message for message in bench.broker.published if message.key == "retry"]
            assert least <= copy.delay_ms <= most


async def test_what_a_run_of_a_lost_delivery_says_is_not_counted():
    """Its broker has taken the message back: the next run of it speaks for the circuit, be it this one's failure or success."""
    for ends in (fails("API_TIMEOUT", "no answer"), fine):
        async with open_bench(does(ends)) as bench:
            delivery = bench.deliver(job())
            delivery.is_lost = True
            await delivery.settled.wait()
            ((permit, outcome),) = bench.breakers.outcomes
            assert (permit.job_id, permit.longest_ms, outcome.kind) == ("j", 5_000, OutcomeKind.CANCELLED)
