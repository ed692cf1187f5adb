"""Jobs that a handler submits while it runs: once for all runs, durable before the run has succeeded, rejected as by the Job API."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sickbay import JobError, SubmitError
from sickbay.domain.errors import AlreadyExists, ErrorReason, ResourceExhausted, Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.priority import Priority
from tests.support.engine_bench import does, job, open_bench


def last(bench):
    return bench.broker.events()[-1]


def sent(bench):
    return [(one.job_type, one.payload_json, one.request_id) for one in bench.submitter.jobs.values()]


async def test_an_async_handler_awaits_the_id():
    async def run(job):
        return await job.submit("invoice", {"n": 1}, priority="low")

    async with open_bench(does(run)) as bench:
        assert await bench.run_one(job(tenant="acme", generation=2)) == "ack"
        assert last(bench).result.json == b'"invoice-0"'
        (one,) = bench.submitter.jobs.values()
        assert (one.tenant, one.priority, one.payload_json) == ("acme", Priority.LOW, b'{"n":1}')
        assert one.request_id == "follow-up.j.2.invoice.1"


async def test_a_plain_handler_waits_for_it():
    def run(job):
        return [job.submit("invoice", {"n": 1}).result(5), job.submit("mail").result()]

    async with open_bench(does(run)) as bench:
        await bench.run_one(job(priority=Priority.HIGH))
        assert last(bench).result.json == b'["invoice-0","mail-1"]'
        assert {one.priority for one in bench.submitter.jobs.values()} == {Priority.HIGH}, "that of the job"


async def test_a_run_that_is_repeated_submits_the_same_jobs():
    async def run(job):
        await asyncio.gather(job.submit("a", {"n": 1}), job.submit("a", {"n": 2}), job.submit("b"), job.submit("a", key="mine"))
        if job.attempt == 0:
            raise JobError("BAD")

    async with open_bench(does(run)) as bench:
        for attempt in range(2):
            await bench.run_one(job(attempt=attempt))
        assert last(bench).state is JobState.SUCCEEDED
        names = ["a.1", "a.2", "b.1", "mine"]
        assert [request_id for _, _, request_id in sent(bench)] == [f"follow-up.j.0.{name}" for name in names]


async def test_it_runs_later():
    moment = datetime(2027, 1, 1, 8, tzinfo=timezone(timedelta(hours=1)))

    async def run(job):
        await job.submit("invoice", delay=60)
        await job.submit("invoice", delay=timedelta(hours=1, milliseconds=1))
        await job.submit("invoice", run_at=moment)

    async with open_bench(does(run)) as bench:
        assert await bench.run_one(job()) == "ack"
        later = [(one.delay_ms, one.run_at) for one in bench.submitter.jobs.values()]
        assert later == [(60_000, 0), (3_600_001, 0), (0, round(moment.timestamp() * 1000))]


async def test_a_run_that_is_repeated_at_another_time_means_the_same_job():
    """So its key is not that of another request, and the time of the first run holds."""

    async def run(job):
        await job.submit("invoice", run_at=datetime.fromtimestamp(2_000_000_000 + job.attempt, UTC))
        if job.attempt == 0:
            raise JobError("BAD")

    async with open_bench(does(run)) as bench:
        asked = []
        for attempt in range(2):
            bench.submitter.jobs.clear()
            await bench.run_one(job(attempt=attempt))
            asked += bench.submitter.jobs.values()
        first, second = asked
        assert first.run_at != second.run_at
        assert (first.request_id, first.digest) == (second.request_id, second.digest)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"delay": 1, "run_at": datetime(2027, 1, 1, tzinfo=UTC)}, "two ways to say when"),
        ({"delay": -1}, "delay: -1 is neither a number of seconds nor a timedelta, at least 0"),
        ({"delay": "soon"}, "delay: 'soon' is neither"),
        ({"delay": timedelta(days=4_000)}, "the delay must be 0 to 315619200 seconds"),
        ({"run_at": datetime(2027, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - that is the mistake
        ({"run_at": "2027-01-01"}, "is not a datetime"),
        ({"run_at": datetime(1960, 1, 1, tzinfo=UTC)}, "in the years 1970 to 9999"),
    ],
    ids=["both", "negative", "words", "long", "naive", "text", "before 1970"],
)
async def test_a_time_that_is_none_fails_the_run(when, message):
    async def run(job):
        with pytest.raises(SubmitError, match=message) as failed:
            await job.submit("invoice", **when)
        raise failed.value

    async with open_bench(does(run)) as bench:
        await bench.run_one(job())
        assert last(bench).code == "INVALID_FIELD"
        assert not bench.submitter.jobs


async def test_a_key_that_is_no_ascii_is_hashed():
    async def run(job):
        await job.submit("a", key="\u00e9" * 200)

    async with open_bench(does(run)) as bench:
        await bench.run_one(job())
        (key,) = bench.submitter.jobs
        assert key.isascii()
        assert len(key) <= 128


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_is_not_awaited_is_durable_before_the_run_has_succeeded(is_async):
    async def forgets(job):
        job.submit("late")

    def forgets_in_a_thread(job):
        job.submit("late")

    async with open_bench(does(forgets if is_async else forgets_in_a_thread)) as bench:
        bench.submitter.go_on = asyncio.Event()
        delivery = bench.deliver(job())
        while bench.runner.running or not bench.breakers.asked:
            await asyncio.sleep(0)
        assert not delivery.verdict
        bench.submitter.go_on.set()
        async with asyncio.timeout(5):
            await delivery.settled.wait()
        assert (last(bench).state, len(bench.submitter.jobs)) == (JobState.SUCCEEDED, 1)


REJECTIONS = [
    (AlreadyExists("another payload"), "IDEMPOTENCY_KEY_REUSED", OutcomeKind.DATA),
    (ResourceExhausted("too fast", ErrorReason.SUBMISSION_RATE_EXCEEDED, retry_after=7), "SUBMISSION_RATE_EXCEEDED", OutcomeKind.TRANSIENT),
    (Unavailable("the broker is away"), "BACKEND_UNAVAILABLE", OutcomeKind.TRANSIENT),
]


@pytest.mark.parametrize(("error", "code", "kind"), REJECTIONS)
@pytest.mark.parametrize("awaited", [True, False])
async def test_a_rejection_fails_the_run(error, code, kind, awaited):
    async def run(job):
        follow_up = job.submit("bad")
        if awaited:
            await follow_up

    async with open_bench(does(run)) as bench:
        bench.submitter.rejects["bad"] = error
        await bench.run_one(job())
        (outcome,) = [outcome for _, outcome in bench.breakers.outcomes]
        assert (outcome.code, outcome.kind, outcome.retry_after_ms) == (code, kind, 7_000 if code == "SUBMISSION_RATE_EXCEEDED" else None)
        assert str(error) in outcome.message
        assert last(bench).state is JobState.RETRYING


async def test_a_rejection_that_is_caught_does_not():
    async def run(job):
        try:
            await job.submit("bad")
        except SubmitError as error:
            return error.code

    async with open_bench(does(run)) as bench:
        bench.submitter.rejects["bad"] = AlreadyExists("another payload")
        await bench.run_one(job())
        assert last(bench).result.json == b'"IDEMPOTENCY_KEY_REUSED"'


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("Not a name", {}), {}),
        (("a", {"n": float("nan")}), {}),
        (("a", b"[1]"), {}),
        (("a", "x" * 2_000_000), {}),
        (("a", 5), {}),
        (("a", {}), {"tenant": "UPPER"}),
        (("a", {}), {"priority": "urgent"}),
    ],
)
async def test_what_is_invalid_is_told_where_it_is_asked_for(arguments, options):
    """Before anything is awaited."""
    told = []

    async def run(job):
        with pytest.raises(SubmitError) as caught:
            job.submit(*arguments, **options)
        told.append(caught.value.kind)
        await job.submit("a")

    async with open_bench(does(run)) as bench:
        await bench.run_one(job())
        assert told == [OutcomeKind.DATA]
        assert list(bench.submitter.jobs) == ["follow-up.j.0.a.1"], "it has no place among the others"


async def test_waiting_on_the_loop_of_all_handlers_is_a_mistake():
    async def run(job):
        job.submit("a").result()

    async with open_bench(does(run)) as bench:
        bench.submitter.go_on = asyncio.Event()
        delivery = bench.deliver(job())
        async with asyncio.timeout(5):
            await delivery.settled.wait()
        assert "await job.submit" in last(bench).message
        bench.submitter.go_on.set()


async def test_what_is_left_of_a_run_submits_nothing():
    seen, go_on, loop = asyncio.get_running_loop().create_future(), threading.Event(), asyncio.get_running_loop()

    def run(job):
        go_on.wait(5)
        try:
            job.submit("a")
        except RuntimeError as error:
            loop.call_soon_threadsafe(seen.set_result, str(error))

    async with open_bench(does(run, timeout=0.05)) as bench:
        await bench.run_one(job())
        go_on.set()
        async with asyncio.timeout(5):
            assert "needs a run" in await seen
        assert bench.submitter.jobs == {}


def test_outside_of_a_run_it_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"sickbay\.client"):
        job().submit("a")


async def test_what_a_failed_run_has_left_is_given_up_at_the_end():
    """Its run is repeated, and submits it then."""

    async def run(job):
        job.submit("late")
        raise JobError("BAD")

    async with open_bench(does(run)) as bench:
        bench.submitter.go_on = asyncio.Event()
        assert await bench.run_one(job()) == "ack"
        await bench.engine.drain(0)
        assert bench.submitter.jobs == {}
