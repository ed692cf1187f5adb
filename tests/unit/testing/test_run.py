"""`sickbay.testing.run` says of one run what a worker would make of it."""

import asyncio
import contextvars
import dataclasses
import math
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from sickbay import Job, JobError, handler, job_type, lifespan
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.retry import RetryOptions, RetryPolicy
from sickbay.runtime.settings import Settings
from sickbay.runtime.variables import Variables
from sickbay.testing import make_job, run, run_async
from sickbay.testing.run import HANDLER_TIMEOUT_S

REQUEST = contextvars.ContextVar("request", default="none")


class Unknown(Exception):
    """No library's."""


@handler("email", timeout=2, codes={Unknown: "NO_MAILBOX"}, kinds={"NO_MAILBOX": "data"}, retries={"NO_MAILBOX": 0})
def send_email(job: Job):
    match job.payload["to"]:
        case "down":
            raise ConnectionRefusedError("smtp does not answer")
        case "busy":
            raise JobError("RATE_LIMITED", "too many mails", retry_after=60)
        case "nowhere":
            raise Unknown("no such mailbox")
        case to:
            job.progress(0.5, "half")
            return {"sent": to, "attempt": job.attempt, "tenant": job.tenant}


@handler("sms")
async def send_sms(job: Job):
    await asyncio.sleep(0)
    if "to" not in job.payload:
        raise Unknown("nobody")
    job.progress(1, "done")
    return job.payload["to"]


def test_a_success_and_its_result_as_it_is_kept():
    ended = run(send_email, {"to": "ada"}, attempt=2, tenant="acme")
    assert ended.succeeded
    assert ended.result == {"sent": "ada", "attempt": 1, "tenant": "acme"}
    assert (ended.goes_to, ended.will_retry, ended.retry_in, ended.breaker_counts) == ("succeeded", False, None, False)
    assert (ended.code, ended.message, ended.traceback, ended.exception, ended.result_note) == ("", "", "", None, "")
    assert [(one.fraction, one.message) for one in ended.progress] == [(0.5, "half")]


def test_a_failure_that_is_retried():
    ended = run(send_email, {"to": "down"})
    assert (ended.succeeded, ended.goes_to, ended.will_retry, ended.retry_in) == (False, "retry", True, 5.0)
    assert (ended.kind, ended.code, ended.message) == ("systemic", "CONNECTION_REFUSED", "smtp does not answer")
    assert isinstance(ended.exception, ConnectionRefusedError)
    assert ended.breaker_counts
    assert ended.traceback.splitlines()[1].lstrip().startswith("File ")
    assert ended.traceback.splitlines()[1].endswith("in send_email")


def test_an_async_handler():
    ended = run(send_sms, {"to": "ada"})
    assert (ended.result, ended.progress[0].message) == ("ada", "done")
    failed = run(send_sms, {}, attempt=4)
    assert (failed.code, failed.kind, failed.goes_to) == ("UNKNOWN", "unknown", "quarantine")
    assert failed.traceback.splitlines()[1].endswith("in send_sms")


def test_a_failure_that_a_person_has_to_look_at():
    ended = run(send_email, {"to": "nowhere"})
    assert (ended.code, ended.kind, ended.goes_to) == ("NO_MAILBOX", "data", "quarantine")
    assert ended.will_be_quarantined
    assert not ended.will_retry
    assert not ended.breaker_counts


def test_the_wait_that_the_dependency_asks_for():
    assert run(send_email, {"to": "busy"}).retry_in == 60


@pytest.mark.parametrize(("attempt", "pause"), [(1, 5), (4, 10), (5, 20), (6, 40), (50, 500)])
def test_what_is_not_the_jobs_fault_is_retried_without_end_in_growing_pauses(attempt, pause):
    """As RetryPolicy says of a job whose earlier runs failed in the same way."""
    ended = run(send_email, {"to": "down"}, attempt=attempt)
    assert (ended.goes_to, ended.retry_in) == ("retry", pause)


def test_retries_are_those_of_the_settings_and_of_the_handler():
    assert run(send_sms, {}, attempt=2, max_retries=1).will_be_quarantined
    assert run(send_sms, {}, attempt=1, max_retries=1, retry_delay=0.25).retry_in == 0.25

    @handler("own", retry={"max": 1, "delay": 7})
    def own(job):
        raise Unknown

    assert run(own).retry_in == 7
    assert run(own, attempt=2, max_retries=9).will_be_quarantined


def test_an_open_circuit_parks_what_counts():
    assert run(send_email, {"to": "down"}, circuit_open=True).goes_to == "parked"
    assert run(send_email, {"to": "nowhere"}, circuit_open=True).goes_to == "quarantine"


def test_the_defaults_are_the_products():
    settings = Settings(Variables())
    assert settings.handler_timeout == HANDLER_TIMEOUT_S
    assert settings.retry_policy == RetryPolicy(3, 5_000) == RetryOptions().over(RetryPolicy())


def test_the_timeout_of_an_async_handler_holds():
    @handler("slow", timeout=0.05)
    async def slow(job):
        await asyncio.Event().wait()

    ended = run(slow)
    assert (ended.code, ended.kind, ended.message) == ("HANDLER_TIMEOUT", "systemic", "the handler timed out after 0.05 s")
    assert "await asyncio.Event().wait()" in ended.traceback
    assert ended.exception is None


def test_the_timeout_of_a_plain_function_holds():
    go_on = threading.Event()

    @handler("slow", timeout=60)
    def slow(job):
        go_on.wait(30)

    ended = run(slow, timeout=0.05)
    go_on.set()
    assert ended.code == "HANDLER_TIMEOUT"
    assert "go_on.wait(30)" in ended.traceback


def test_a_handler_that_blocks_its_loop_beyond_the_timeout_has_timed_out():
    @handler("blocks", timeout=0.02)
    async def blocks(job):
        threading.Event().wait(0.05)
        return 1

    ended = run(blocks)
    assert (ended.code, ended.result) == ("HANDLER_TIMEOUT", None)
    assert "blocked the event loop" in ended.message


def test_a_timeout_while_the_result_is_read_loses_the_result_alone():

    @dataclasses.dataclass
    class Report:
        number: int

        def __getattribute__(self, name):
            if name == "number":
                threading.Event().wait(0.2)
            return object.__getattribute__(self, name)

    @handler("report", timeout=0.05)
    def report(job):
        return Report(1)

    ended = run(report)
    assert ended.succeeded
    assert ended.result is None
    assert ended.result_note == "the result could not be read within the handler's timeout"


def test_a_result_that_is_not_kept():
    @handler("strange")
    def strange(job):
        return object()

    ended = run(strange)
    assert (ended.succeeded, ended.result) == (True, None)
    assert ended.result_note == "the result is not JSON: it has an object of the class object"
    assert "is not JSON" in repr(ended)


def test_whatever_a_handler_raises_is_an_outcome():
    @handler("exits")
    def exits(job):
        raise SystemExit(3)

    @handler("cancels")
    async def cancels(job):
        raise asyncio.CancelledError

    assert run(exits).will_retry
    assert isinstance(run(exits).exception, SystemExit)
    assert isinstance(run(cancels).exception, asyncio.CancelledError)
    assert run(cancels).kind == OutcomeKind.UNKNOWN


def test_a_plain_function_that_returns_an_awaitable_and_contexts():
    async def later():
        await asyncio.sleep(0)
        return REQUEST.get()

    @handler("later")
    def starts(job):
        return later()

    token = REQUEST.set("mine")
    assert run(starts).result == "mine"
    REQUEST.reset(token)


def test_without_a_timeout_a_plain_function_is_called_in_this_thread():
    @handler("where")
    def where(job):
        return threading.current_thread() is threading.main_thread()

    assert run(where).result is False
    assert run(where, timeout=math.inf).result is True


async def test_in_a_running_loop():
    with pytest.raises(RuntimeError, match="use `await run_async"):
        run(send_sms, {"to": "ada"})
    assert (await run_async(send_sms, {"to": "ada"})).result == "ada"
    assert (await run_async(send_email, {"to": "down"})).will_retry
    assert (await run_async(send_email, {"to": "ada"}, timeout=math.inf)).succeeded


async def test_a_test_that_is_cancelled_cancels_its_handler():
    ended, started = asyncio.Event(), asyncio.Event()

    @handler("waits")
    async def waits(job):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(run_async(waits))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended.wait()


def test_a_job_of_its_own():
    job = make_job("email", {"to": "ada"}, attempt=3, tenant="acme", priority="HIGH", job_id="j1", generation=2)
    assert (job.attempt, job.tenant, job.priority, job.idempotency_key, job.payload) == (2, "acme", "HIGH", "j1.2", {"to": "ada"})
    assert run(send_email, job).result == {"sent": "ada", "attempt": 2, "tenant": "acme"}
    with pytest.raises(TypeError, match="the job has its own attempt: give them to make_job"):
        run(send_email, job, attempt=2)


def test_a_payload_that_cannot_be_read_is_the_jobs_own_fault():
    assert run(send_email, b"[1]").code == "PAYLOAD_UNREADABLE"


@pytest.mark.parametrize(
    ("options", "error"),
    [({"tenant": "No!"}, ValueError), ({"attempt": 0}, ValueError), ({"timeout": 0}, ValueError), ({"nonsense": 1}, TypeError)],
)
def test_invalid_options(options, error):
    with pytest.raises(error):
        run(send_email, {"to": "ada"}, **options)


@pytest.mark.parametrize("payload", [{"to": object()}, {"to": math.nan}, ["to"]])
def test_a_payload_that_is_not_json(payload):
    with pytest.raises(TypeError, match="payload"):
        run(send_email, payload)


def test_what_is_no_handler():
    def plain(job): ...

    with pytest.raises(TypeError, match=r"plain is not a handler: put @handler\(\.\.\.\) on it"):
        run(plain)


def test_a_function_of_two_job_types():
    both = handler("one")(handler("two", retry={"delay": 9})(lambda job: 1 / job.payload["by"]))
    with pytest.raises(TypeError, match=r"several job types: say with job_type=\.\.\. which of one, two"):
        run(both, {"by": 1})
    assert run(both, {"by": 0}, job_type="two").retry_in == 9
    with pytest.raises(TypeError, match="does not handle the job type 'three', only one, two"):
        run(both, {"by": 1}, job_type="three")


class Mailer:
    def send(self, job):
        return "sent"


send = handler("mail")(Mailer().send)


def test_what_cannot_have_attributes_is_found_in_its_module():
    assert run(send).result == "sent"


@pytest.mark.parametrize(
    ("payload", "options", "text"),
    [
        ({"to": "ada"}, {}, "<Result: succeeded, result {'sent': 'ada', 'attempt': 0, 'tenant': 'default'}>"),
        ({"to": "down"}, {}, "<Result: failed, CONNECTION_REFUSED (systemic): 'smtp does not answer'; the job runs again in 5 s>"),
        ({"to": "nowhere"}, {}, "<Result: failed, NO_MAILBOX (data): 'no such mailbox'; the job is quarantined>"),
        (
            {"to": "down"},
            {"circuit_open": True},
            "<Result: failed, CONNECTION_REFUSED (systemic): 'smtp does not answer'; the job is parked>",
        ),
    ],
)
def test_a_result_says_in_one_line_what_happened(payload, options, text):
    assert repr(run(send_email, payload, **options)) == text


def test_it_is_quick():
    """A test of a handler costs no second of its own."""
    began = time.monotonic()
    for _ in range(20):
        run(send_email, {"to": "ada"})
    assert time.monotonic() - began < 5


@job_type("typed")
@dataclasses.dataclass
class Order:
    to: str
    count: int = 1


@handler("typed")
def take(payload: Order, job: Job) -> list[object]:
    return [payload.to, payload.count, job.job_type]


def test_an_object_as_payload():
    assert run(take, Order("x", 2)).result == ["x", 2, "typed"]
    assert run(take, make_job("typed", Order("y"))).result == ["y", 1, "typed"]
    assert make_job("typed", Order("y")).payload == {"to": "y", "count": 1}
    assert run(take, {"to": 1}).will_be_quarantined


def test_follow_up_jobs_are_noted_and_go_nowhere():
    @handler("order")
    async def order(job):
        first = await job.submit("invoice", {"n": 1})
        assert await job.submit("invoice", {"n": 1}, key="k") == await job.submit("invoice", {"n": 1}, key="k")
        return first

    ended = run(order, tenant="acme", priority="LOW", job_id="j1")
    assert [(one.job_type, one.payload, one.tenant, one.priority, one.key) for one in ended.submitted] == [
        ("invoice", {"n": 1}, "acme", "LOW", "follow-up.j1.0.invoice.1"),
        ("invoice", {"n": 1}, "acme", "LOW", "follow-up.j1.0.k"),
    ]
    assert ended.result == ended.submitted[0].job_id


def test_a_follow_up_says_when_it_is_to_run():
    moment = datetime(2027, 1, 1, tzinfo=UTC)

    @handler("order")
    async def order(job):
        await job.submit("invoice", delay=timedelta(minutes=1))
        await job.submit("invoice", run_at=moment)
        await job.submit("invoice", delay=5, run_at=moment)

    ended = run(order)
    assert [(one.delay, one.run_at) for one in ended.submitted] == [(60, None), (None, moment)]
    assert (ended.code, ended.kind) == ("INVALID_FIELD", "data")


def test_a_follow_up_that_would_be_rejected_fails_the_run():
    @handler("order")
    def order(job):
        job.submit("invoice", {"n": 1}, key="same").result()
        job.submit("invoice", {"n": job.payload["n"]}, key="same").result()

    assert run(order, {"n": 1}).succeeded
    ended = run(order, {"n": 2})
    assert (ended.code, ended.kind, len(ended.submitted)) == ("IDEMPOTENCY_KEY_REUSED", "data", 1)


def test_a_deadline_is_that_of_the_run():
    @handler("hurry", timeout=60)
    def hurry(job):
        return (job.deadline - datetime.now(UTC)).total_seconds()

    assert 59 < run(hurry).result <= 60


@lifespan
async def mailer():
    EVENTS.append("open")
    yield asyncio.get_running_loop()
    EVENTS.append("close")


@handler("mail")
async def send_by(job, mailer):
    return mailer is asyncio.get_running_loop()


@handler("mail-sync")
def send_in_a_thread(job, mailer):
    return mailer.is_running()


EVENTS = []


@pytest.mark.parametrize("function", [send_by, send_in_a_thread])
@pytest.mark.parametrize("timeout", [5, math.inf])
def test_lifespans_are_entered_for_a_run(function, timeout):
    EVENTS.clear()
    assert run(function, timeout=timeout).result is True
    assert EVENTS == ["open", "close"]


async def test_lifespans_are_entered_on_the_loop_of_the_test():
    EVENTS.clear()
    assert (await run_async(send_by)).result is True
    assert EVENTS == ["open", "close"]


def test_a_test_can_give_something_else():
    EVENTS.clear()
    assert run(send_by, given={"mailer": None}).result is False
    assert EVENTS == []
