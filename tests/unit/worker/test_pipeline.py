"""The one way of a job: what is published, in which order, and that nothing is acknowledged too early."""

import asyncio

import pytest

from sickbay.domain.breaker import BreakerKey, BreakerScope, BreakerState, DependencyRule, Refusal
from sickbay.domain.job import JobState, Reason
from sickbay.domain.queries import DuplicateCheck
from sickbay.domain.retry import RetryOptions
from tests.support.engine_bench import TRACE, does, fails, fine, job, open_bench
from tests.support.flag import Flag


async def test_success_is_acknowledged_only_after_its_event_is_durable():
    async with open_bench(does(fine)) as bench:
        bench.broker.failing = 2
        assert await bench.run_one(job()) == "ack"
        assert bench.log == ["settled success", "publish failed", "publish failed", "published job.events", "ack"]
        (event,) = bench.broker.events()
        assert (event.state, event.run, event.started_at, event.actor) == (JobState.SUCCEEDED, "w.1", 1_000, "w")


async def test_a_retry_copy_is_durable_before_the_original_goes():
    async with open_bench(does(fails("API_TIMEOUT", "slow", retry_after=7))) as bench:
        assert await bench.run_one(job()) == "ack"
        assert bench.log == ["settled systemic", "published retry", "published job.events", "ack"]
        (copy,) = bench.broker.copies()
        assert (copy.attempt, copy.job_id, copy.payload_json) == (1, "j", b'{"a": 1}')
        assert 7_000 <= bench.broker.published[0].delay_ms <= 8_400
        (event,) = bench.broker.events()
        assert (event.state, event.code, event.job.attempt) == (JobState.RETRYING, "API_TIMEOUT", 1)


async def test_a_retry_that_cannot_be_published_gives_the_job_back():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        bench.broker.failing_copies = 1
        assert await bench.run_one(job()) == "nack"
        assert not list(bench.broker.copies())


async def test_the_last_failure_is_one_publish_to_quarantine_then_the_ack():
    async with open_bench(does(fails("VALIDATION_ERROR", "no"))) as bench:
        assert await bench.run_one(job(attempt=3)) == "ack"
        assert bench.log == ["settled data", "published job.quarantined.quarantined", "ack"]
        (event,) = bench.broker.events()
        assert (event.reason, event.code, event.job.payload_json) == (Reason.RETRIES_EXHAUSTED, "VALIDATION_ERROR", b'{"a": 1}')


async def test_what_the_dependency_does_never_needs_a_person():
    """After its documented retries the job waits longer and longer, and the event says until when."""
    async with open_bench(does(fails("API_TIMEOUT", "no answer"))) as bench:
        copy = job(attempt=0)
        for _ in range(12):
            assert await bench.run_one(copy) == "ack"
            copy = bench.broker.copies()[-1]
        assert (copy.attempt, copy.blameless) == (12, 12)
        delays = [message.delay_ms for message in bench.broker.published if message.key == "retry"]
        assert delays[:3] == [5_000] * 3
        assert 500_000 <= delays[-1] <= 600_000
        event = bench.broker.events()[-1]
        assert (event.state, event.job.failures[-1].retry_at) == (JobState.RETRYING, bench.now + delays[-1])


async def test_a_handler_says_how_its_jobs_are_retried():
    options = RetryOptions(max_retries=1, delay_ms=40, retries_by_code={"SLOW": 0})
    async with open_bench(does(fails("STRANGE"), retry=options)) as bench:
        await bench.run_one(job())
        assert bench.broker.published[0].delay_ms == 40
        await bench.run_one(job(attempt=1))
        assert bench.broker.events()[-1].reason is Reason.RETRIES_EXHAUSTED
    async with open_bench(does(fails("SLOW", kind="transient"), retry=options)) as bench:
        await bench.run_one(job())
        assert bench.broker.events()[-1].reason is Reason.RETRIES_EXHAUSTED


async def test_a_quarantine_copy_that_cannot_be_published_gives_the_job_back():
    async with open_bench(does(fails("VALIDATION_ERROR"))) as bench:
        bench.broker.failing_copies = 1
        assert await bench.run_one(job(attempt=3)) == "nack"


async def test_a_refused_job_is_parked_uncharged_and_never_runs():
    ran = []

    async def handler(job):
        ran.append(job)

    async with open_bench(does(handler)) as bench:
        bench.breakers.answer = Refusal(BreakerKey("email"), BreakerState.OPEN)
        assert await bench.run_one(job(attempt=2)) == "ack"
        assert bench.log == ["published job.quarantined.parked", "ack"]
        (event,) = bench.broker.events()
        assert (event.state, event.reason, event.code, event.job.attempt) == (JobState.PARKED, Reason.CIRCUIT_OPEN, "CIRCUIT_OPEN", 2)
        assert ran == []


async def test_a_failure_that_opened_the_circuit_parks_its_job():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        bench.breakers.state = BreakerState.OPEN
        assert await bench.run_one(job(attempt=3)) == "ack"
        (event,) = bench.broker.events()
        assert (event.state, event.code, event.job.attempt) == (JobState.PARKED, "API_TIMEOUT", 3)


async def test_a_message_nobody_can_read_is_kept_with_its_bytes():
    async with open_bench(does(fine)) as bench:
        assert await bench.run_one(body=b"\x00 no json") == "ack"
        (event,) = bench.broker.events()
        assert (event.reason, event.job.job_id, event.job.payload["contentBase64"]) == (Reason.UNDECODABLE, "m-1", "ACBubyBqc29u")


@pytest.mark.parametrize(
    ("foreign", "runs"), [(None, True), (frozenset({"acme"}), True), (frozenset({"other"}), False), (frozenset(), False)]
)
async def test_a_foreign_message_runs_only_for_the_tenants_that_take_such(foreign, runs):
    ran = []

    async def handler(job):
        ran.append(job.job_id)

    async with open_bench(does(handler), foreign=foreign) as bench:
        assert await bench.run_one(job("j-1", tenant="acme"), is_foreign=True) == "ack"
        assert await bench.run_one(job("j-2", tenant="acme")) == "ack"
        assert ran == (["j-1", "j-2"] if runs else ["j-2"])
        if not runs:
            event = bench.broker.events()[0]
            assert (event.reason, event.job.tenant, event.job.job_type) == (Reason.UNDECODABLE, "default", "undecodable")
            assert event.job.job_id not in {"j-1", "m-1"}, "the id that it claims may be another job's"
            assert "FOREIGN_TENANTS" in event.job.failures[-1].message


async def test_a_type_without_a_handler_is_quarantined():
    async with open_bench(does(fine)) as bench:
        assert await bench.run_one(body=b'{"jobType": "fax", "payload": {}}') == "ack"
        (event,) = bench.broker.events()
        assert (event.state, event.reason, event.code) == (JobState.QUARANTINED, Reason.UNKNOWN_TYPE, "UNKNOWN_TYPE")


async def test_a_fresh_job_does_not_ask_the_ledger():
    async with open_bench(does(fine)) as bench:
        await bench.run_one(job())
        assert bench.fence.entered == []


@pytest.mark.parametrize("copy", [job(attempt=1), job(generation=1), job(maybe_duplicate=True)])
async def test_a_copy_that_has_a_later_one_is_dropped_and_counted(copy):
    async with open_bench(does(fine)) as bench:
        bench.fence.entry = DuplicateCheck(superseded=True)
        assert await bench.run_one(copy) == "ack"
        (event,) = bench.broker.events()
        assert event.duplicate
        assert bench.breakers.outcomes == []


@pytest.mark.parametrize("redelivered", [False, True])
async def test_a_second_copy_of_what_has_just_succeeded_here_is_dropped_although_the_ledger_is_late(redelivered):
    """Even if the event of the success is not durable yet; a job that failed runs again."""
    async with open_bench(does(fine), concurrency=1) as bench:
        bench.broker.failing = 2
        first, second = bench.deliver(job()), bench.deliver(job(maybe_duplicate=not redelivered), redelivered=redelivered)
        await first.settled.wait()
        await second.settled.wait()
        assert [event.duplicate for event in bench.broker.events()] == [False, True]
        assert len(bench.breakers.outcomes) == 1
        assert await bench.run_one(job("other", maybe_duplicate=True)) == "ack"
        assert len(bench.breakers.outcomes) == 2


async def test_a_second_copy_runs_if_the_success_of_the_first_never_became_durable():
    async with open_bench(does(fine)) as bench:
        publish, refused = bench.broker.publish, []

        async def refuses(messages):
            if messages[0].key == "job.events" and not refused:
                refused.append(messages)
                raise ValueError("the event cannot be published")
            await publish(messages)

        bench.broker.publish = refuses
        assert await bench.run_one(job()) == "ack"
        assert len(refused) == 1
        assert await bench.run_one(job(maybe_duplicate=True)) == "ack"
        assert len(bench.breakers.outcomes) == 2


async def test_a_cancelled_job_is_dropped():
    async with open_bench(does(fine)) as bench:
        bench.fence.cancelled.add("j")
        assert await bench.run_one(job()) == "ack"
        assert bench.broker.published == []


async def test_jobs_keep_flowing_while_the_ledger_is_away():
    async with open_bench(does(fine)) as bench:
        bench.fence.away = True
        assert await bench.run_one(job(attempt=1), redelivered=True) == "ack"
        assert bench.broker.events()[0].state is JobState.SUCCEEDED


async def test_a_long_run_is_told_while_it_runs_and_a_short_one_only_with_its_end():
    go = Flag()

    async def handler(job):
        await go.wait()

    async with open_bench(does(handler), linger_s=0.001) as bench:
        delivery = bench.deliver(job())
        while not bench.broker.published:
            await asyncio.sleep(0)
        assert [event.state for event in bench.broker.events()] == [JobState.RUNNING]
        bench.events._linger_s = 5.0
        go.set()
        await delivery.settled.wait()
        await bench.run_one(job("short"))
        assert [event.state for event in bench.broker.events()] == [JobState.RUNNING, JobState.SUCCEEDED, JobState.SUCCEEDED]


async def test_a_broker_that_does_not_answer_is_asked_again():
    async with open_bench(does(fine)) as bench:
        bench.broker.silent = 3
        assert await bench.run_one(job()) == "ack"
        assert await bench.run_one(job("next")) == "ack"
        assert bench.broker.silent == 0


async def test_a_trace_is_handed_on_by_those_who_send_none():
    """In the headers of a retry, and in the event of a job that is set aside."""
    async with open_bench(does(fails("STRANGE", "x"))) as bench:
        await bench.run_one(job(), headers=TRACE)
        await bench.run_one(job(attempt=3), headers=TRACE)
        (retry,) = [message for message in bench.broker.published if message.key == "retry"]
        assert retry.headers == TRACE
        (event,) = [event for event in bench.broker.events() if event.state is JobState.QUARANTINED]
        assert event.job.trace == " ".join(TRACE.values())


async def test_a_job_asks_the_breaker_of_its_types_dependency():
    rule = DependencyRule(BreakerScope.TYPE, lambda: {"email": "smtp"})
    async with open_bench(does(fine), scope=rule) as bench:
        await bench.run_one(job(tenant="acme"))
        assert bench.breakers.asked == [BreakerKey("dependency:smtp")]


@pytest.mark.parametrize(("scope", "asked"), [(BreakerScope.TYPE, "default"), (BreakerScope.TENANT, "acme")])
async def test_a_job_asks_the_breaker_of_its_type_or_of_its_tenant(scope, asked):
    async with open_bench(does(fine), scope=scope) as bench:
        assert await bench.run_one(job(tenant="acme")) == "ack"
        assert bench.breakers.asked == [BreakerKey("email", asked)]
        assert bench.broker.events()[-1].job.tenant == "acme"
