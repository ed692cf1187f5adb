"""The one way of a job: what is published, in which order, and that nothing is acknowledged too early."""

import asyncio
import contextlib
import threading

import pytest

from sickbay import JobError
from sickbay.circuit import CircuitState, Key, PermitKind, Refusal
from sickbay.job import Reason, State
from sickbay.outcome import Kind
from sickbay.queries import Entry
from tests.unit.engine_stubs import does, job, open_bench
from worker import slots


async def fine(job):
    pass


def fails(*args, **kwargs):
    async def run(job):
        raise JobError(*args, **kwargs)

    return run


async def test_success_is_acknowledged_only_after_its_event_is_durable():
    async with open_bench(does(fine)) as bench:
        bench.broker.failing = 2
        assert await bench.run_one(job()) == "ack"
        assert bench.log == ["settled success", "publish failed", "publish failed", "published job.events", "ack"]
        (event,) = bench.broker.events()
        assert (event.state, event.run, event.started_at, event.actor) == (State.SUCCEEDED, "w.1", 1_000, "w")


async def test_a_retry_copy_is_durable_before_the_original_goes():
    async with open_bench(does(fails("API_TIMEOUT", "slow", retry_after=7))) as bench:
        assert await bench.run_one(job()) == "ack"
        assert bench.log == ["settled systemic", "published retry", "published job.events", "ack"]
        (copy,) = bench.broker.copies()
        assert (copy.attempt, copy.job_id, copy.payload_json) == (1, "j", b'{"a": 1}')
        assert bench.broker.published[0].delay_ms == 7_000
        (event,) = bench.broker.events()
        assert (event.state, event.code, event.job.attempt) == (State.RETRYING, "API_TIMEOUT", 1)


async def test_a_retry_that_cannot_be_published_gives_the_job_back():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        bench.broker.failing = 1
        assert await bench.run_one(job()) == "nack"
        assert bench.broker.published == []


async def test_the_last_failure_is_one_publish_to_quarantine_then_the_ack():
    async with open_bench(does(fails("VALIDATION_ERROR", "no"))) as bench:
        assert await bench.run_one(job(attempt=3)) == "ack"
        assert bench.log == ["settled data", "published job.quarantined.quarantined", "ack"]
        (event,) = bench.broker.events()
        assert (event.reason, event.code, event.job.payload_json) == (Reason.RETRIES_EXHAUSTED, "VALIDATION_ERROR", b'{"a": 1}')


async def test_a_quarantine_copy_that_cannot_be_published_gives_the_job_back():
    async with open_bench(does(fails("VALIDATION_ERROR"))) as bench:
        bench.broker.failing = 1
        assert await bench.run_one(job(attempt=3)) == "nack"


async def test_a_refused_job_is_parked_uncharged_and_never_runs():
    ran = []

    async def handler(job):
        ran.append(job)

    async with open_bench(does(handler)) as bench:
        bench.breakers.answer = Refusal(Key("email"), CircuitState.OPEN)
        assert await bench.run_one(job(attempt=2)) == "ack"
        assert bench.log == ["published job.quarantined.parked", "ack"]
        (event,) = bench.broker.events()
        assert (event.state, event.reason, event.code, event.job.attempt) == (State.PARKED, Reason.CIRCUIT_OPEN, "CIRCUIT_OPEN", 2)
        assert ran == []


async def test_a_failure_that_opened_the_circuit_parks_its_job():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        bench.breakers.state = CircuitState.OPEN
        assert await bench.run_one(job(attempt=3)) == "ack"
        (event,) = bench.broker.events()
        assert (event.state, event.code, event.job.attempt) == (State.PARKED, "API_TIMEOUT", 3)


async def test_a_message_nobody_can_read_is_kept_with_its_bytes():
    async with open_bench(does(fine)) as bench:
        assert await bench.run_one(body=b"\x00 no json") == "ack"
        (event,) = bench.broker.events()
        assert (event.reason, event.job.job_id, event.job.payload["contentBase64"]) == (Reason.UNDECODABLE, "m-1", "ACBubyBqc29u")


async def test_a_type_without_a_handler_is_quarantined():
    async with open_bench(does(fine)) as bench:
        assert await bench.run_one(body=b'{"jobType": "fax", "payload": {}}') == "ack"
        (event,) = bench.broker.events()
        assert (event.state, event.reason, event.code) == (State.QUARANTINED, Reason.UNKNOWN_TYPE, "UNKNOWN_TYPE")


async def test_a_fresh_job_does_not_ask_the_ledger():
    async with open_bench(does(fine)) as bench:
        await bench.run_one(job())
        assert bench.fence.entered == []


@pytest.mark.parametrize("copy", [job(attempt=1), job(generation=1), job(maybe_duplicate=True)])
async def test_a_copy_that_has_a_later_one_is_dropped_and_counted(copy):
    async with open_bench(does(fine)) as bench:
        bench.fence.entry = Entry(superseded=True)
        assert await bench.run_one(copy) == "ack"
        (event,) = bench.broker.events()
        assert event.duplicate
        assert bench.breakers.outcomes == []


async def test_a_cancelled_job_is_dropped():
    async with open_bench(does(fine)) as bench:
        bench.fence.cancelled.add("j")
        assert await bench.run_one(job()) == "ack"
        assert bench.broker.published == []


async def test_jobs_keep_flowing_while_the_ledger_is_away():
    async with open_bench(does(fine)) as bench:
        bench.fence.away = True
        assert await bench.run_one(job(attempt=1), redelivered=True) == "ack"
        assert bench.broker.events()[0].state is State.SUCCEEDED


@pytest.mark.parametrize(("deaths", "away", "together"), [(0, False, 3), (1, False, 1), (0, True, 1)])
async def test_suspects_run_alone_if_a_second_worker_died_of_them_or_nobody_can_tell(deaths, away, together):
    """Most of what a dead worker held is innocent; in any case others run beside them."""
    running, most, go = set(), [], asyncio.Event()

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
        bench.fence.entry = Entry(superseded=False, crashes=1)
        await bench.run_one(job(), redelivered=True)
        assert bench.broker.events()[-1].state is State.SUCCEEDED
        bench.fence.entry = Entry(superseded=False, crashes=2)
        await bench.run_one(job(), redelivered=True)
        assert bench.broker.events()[-1].reason is Reason.WORKER_LOST


async def test_a_suspect_whose_worker_lives_is_forgotten_even_if_its_settling_fails():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        bench.broker.failing = 1
        assert await bench.run_one(job(), redelivered=True) == "nack"
        assert bench.fence.left == ["j"]


async def test_a_drain_lets_the_running_job_finish_and_takes_no_more():
    begun, go = asyncio.Event(), asyncio.Event()

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
    begun = asyncio.Event()

    async def handler(job):
        begun.set()
        await asyncio.Event().wait()

    async with open_bench(does(handler)) as bench:
        delivery = bench.deliver(job())
        await begun.wait()
        await bench.engine.drain(0)
        assert delivery.verdict == "nack"
        assert [outcome.kind for _, outcome in bench.breakers.outcomes] == [Kind.CANCELLED]
        assert bench.broker.published == []


async def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_drain():
    begun, release = asyncio.Event(), asyncio.Event()

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
        while not bench.broker.log.count("publish failed"):
            await asyncio.sleep(0)
        await bench.engine.drain(0)
        await bench.working
        assert not bench.engine.is_stuck
        assert not delivery.verdict
        bench.broker.failing = 0


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
        assert [(outcome.code, outcome.kind) for _, outcome in bench.breakers.outcomes] == [("HANDLER_TIMEOUT", Kind.SYSTEMIC)]
        assert bench.runner.overdue == (0 if is_async else 1)
        release.set()


async def test_a_timeout_inside_the_handler_is_the_dependencys():
    async def times_out(job):
        raise TimeoutError

    async with open_bench(does(times_out, timeout=5)) as bench:
        await bench.run_one(job())
        assert bench.breakers.outcomes[0][1].code == "API_TIMEOUT"


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyError])
async def test_whatever_a_handler_raises_is_an_outcome(error):
    async def raises(job):
        raise error

    async with open_bench(does(raises)) as bench:
        assert await bench.run_one(job()) == "ack"
        assert bench.breakers.outcomes[0][1].kind is Kind.UNKNOWN


async def test_a_probes_lease_is_renewed_while_it_runs():
    go = asyncio.Event()

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
    go = asyncio.Event()

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


async def test_a_long_run_is_told_while_it_runs_and_a_short_one_only_with_its_end():
    go = asyncio.Event()

    async def handler(job):
        await go.wait()

    async with open_bench(does(handler)) as bench:
        delivery = bench.deliver(job())
        while not bench.broker.published:
            await asyncio.sleep(0)
        assert [event.state for event in bench.broker.events()] == [State.RUNNING]
        go.set()
        await delivery.settled.wait()
        await bench.run_one(job("short"))
        assert [event.state for event in bench.broker.events()] == [State.RUNNING, State.SUCCEEDED, State.SUCCEEDED]


async def test_a_broker_that_does_not_answer_is_asked_again():
    async with open_bench(does(fine)) as bench:
        bench.broker.silent = 3
        assert await bench.run_one(job()) == "ack"
        assert await bench.run_one(job("next")) == "ack"
        assert bench.broker.silent == 0


async def test_a_job_that_waits_too_long_for_its_turn_comes_again_later(monkeypatch):
    """Uncharged, through the retry queue: RabbitMQ takes back what a worker holds for half an hour."""
    monkeypatch.setattr(slots, "MAX_WAIT_S", 0.01)
    go = asyncio.Event()

    async def slow(job):
        await go.wait()

    async with open_bench(does(slow, concurrency=1)) as bench:
        first = bench.deliver(job("first"))
        assert await bench.run_one(job("second")) == "ack"
        assert [(copy.job_id, copy.attempt, copy.failures) for copy in bench.broker.copies()] == [("second", 0, ())]
        go.set()
        await first.settled.wait()


async def test_a_suspect_that_waits_too_long_for_its_turn_goes_back(monkeypatch):
    """To the head of the queue, still marked: here or elsewhere it gets another turn."""
    monkeypatch.setattr(slots, "MAX_WAIT_S", 0.01)
    begun, go = asyncio.Event(), asyncio.Event()

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


async def test_a_suspect_that_was_held_too_long_stays_a_suspect():
    async with open_bench(does(fine)) as bench:
        assert await bench.run_one(job(), redelivered=True, held_s=1_700) == "nack"
        assert (bench.broker.copies(), bench.fence.left) == ([], ["j"])


async def test_a_drain_hands_on_what_waits_for_its_types_turn():
    """What has not begun begins elsewhere, unmarked; what runs may finish."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(job):
        begun.set()
        await go.wait()

    async with open_bench(does(slow, concurrency=1)) as bench:
        first, second = bench.deliver(job("first")), bench.deliver(job("second"))
        await begun.wait()
        while not bench.engine._gates._waiting["email"]:
            await asyncio.sleep(0)
        draining = asyncio.create_task(bench.engine.drain(60))
        await second.settled.wait()
        assert (second.verdict, first.verdict) == ("ack", "")
        assert [copy.job_id for copy in bench.broker.copies()] == ["second"]
        go.set()
        await draining
        await first.settled.wait()
        assert first.verdict == "ack"


TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "acme=1"}


async def test_a_trace_is_handed_on_by_those_who_send_none():
    """In the headers of a retry, and in the event of a job that is set aside."""
    async with open_bench(does(fails("NETWORK_ERROR", "x"))) as bench:
        await bench.run_one(job(), headers=TRACE)
        await bench.run_one(job(attempt=3), headers=TRACE)
        (retry,) = [message for message in bench.broker.published if message.key == "retry"]
        assert retry.headers == TRACE
        (event,) = [event for event in bench.broker.events() if event.state is State.QUARANTINED]
        assert event.job.trace == " ".join(TRACE.values())


async def test_a_job_that_is_put_off_keeps_its_headers():
    async with open_bench(does(fine)) as bench:
        await bench.run_one(job(), headers=TRACE, held_s=slots.MAX_HELD_S)
        (copy,) = [message for message in bench.broker.published if message.key == "retry"]
        assert copy.headers == TRACE
