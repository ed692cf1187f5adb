"""Spans of runs, and of what else becomes of a message: where they are in the trace, and what they say."""

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.codec import job_message
from sickbay.ports import TO_RETRY
from sickbay.telemetry.traced import RUN
from tests.unit.engine_stubs import StubDelivery
from tests.unit.span_stubs import JOB, ORIGIN, PARENT, above, carried, here, links, origin, published, traced
from worker.traced import JobTracer, TracedRunner

pytest_plugins = ["tests.unit.span_fixtures"]


class Runs:
    """A runner whose handler makes a span of its own and comes to `outcome`."""

    def __init__(self, sent, outcome):
        self._sent = sent
        self._outcome = outcome
        self.broken_off = False

    def timeout_of(self, spec):
        return 5.0

    async def run(self, spec, job, permit):
        self._sent.tracer.start_span("the handler's own").end()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def break_off(self):
        self.broken_off = True


SPEC = HandlerSpec("email", print)
NORMAL = Permit(BreakerKey("email"), PermitKind.NORMAL, 1, "j-1")


async def test_a_retry_is_a_sibling_of_the_run_before_and_links_to_it(sent):
    jobs = JobTracer(sent.tracer, "rabbitmq")
    runner = TracedRunner(Runs(sent, Outcome(OutcomeKind.TRANSIENT, "NETWORK_ERROR", "hunter2")), jobs)
    jobs.arrived(StubDelivery(b"", [], headers={"traceparent": PARENT}, message_id="m-7"))
    await runner.run(SPEC, traced(), NORMAL)
    (message,) = await published(sent, job_message(TO_RETRY, traced()))
    run = sent.one("process jobs.main")
    assert (above(run), links(run), run.kind) == (ORIGIN, [], SpanKind.CONSUMER)
    assert above(sent.one("the handler's own")) == above(sent.one("send jobs.retry")) == here(run)
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, "NETWORK_ERROR")
    assert (run.attributes["messaging.message.id"], run.attributes["sickbay.run.outcome"]) == ("m-7", "transient")
    assert origin(message) == ORIGIN
    assert carried(message).cause.span_id == run.context.span_id

    RUN.set(None)
    again = traced(state=message.headers["tracestate"])
    await TracedRunner(Runs(sent, SUCCESS), JobTracer(sent.tracer, "rabbitmq")).run(SPEC, again, NORMAL)
    second = sent.spans[-1]
    assert (above(second), links(second), second.status.status_code) == (ORIGIN, [here(run)], StatusCode.UNSET)
    assert "sickbay" not in second.context.trace_state, "handlers do not hand our member on"


async def test_a_job_without_a_trace_begins_one_with_its_first_run(sent):
    await TracedRunner(Runs(sent, Outcome(OutcomeKind.TRANSIENT, "X")), JobTracer(sent.tracer, "sickbay")).run(SPEC, JOB, NORMAL)
    (message,) = await published(sent, job_message(TO_RETRY, JOB))
    run = sent.one("process jobs.main")
    assert above(run) is None
    assert carried(message).origin.trace_id == run.context.trace_id
    assert carried(message).cause.span_id == run.context.span_id


async def test_a_probe_says_that_it_is_one(sent):
    probe = Permit(BreakerKey("email"), PermitKind.PROBE, 1, "j-1")
    await TracedRunner(Runs(sent, SUCCESS), JobTracer(sent.tracer, "sickbay")).run(SPEC, JOB, probe)
    assert sent.one("process jobs.main").attributes["sickbay.run.probe"] is True


async def test_a_run_that_is_torn_away_ends_its_span(sent):
    runner = TracedRunner(Runs(sent, KeyboardInterrupt()), JobTracer(sent.tracer, "sickbay"))
    with pytest.raises(KeyboardInterrupt):
        await runner.run(SPEC, JOB, NORMAL)
    assert sent.one("process jobs.main").end_time is not None


def test_the_runner_behind_is_asked_and_broken_off(sent):
    inner = Runs(sent, SUCCESS)
    runner = TracedRunner(inner, JobTracer(sent.tracer, "sickbay"))
    runner.break_off()
    assert (inner.broken_off, runner.timeout_of(SPEC)) == (True, 5.0)


@pytest.mark.parametrize(
    ("event", "name", "facts"),
    [
        (
            JobEvent(JOB, JobState.PARKED, 30, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN"),
            "park jobs.main",
            {"sickbay.job.reason": "CIRCUIT_OPEN", "sickbay.job.error_code": "CIRCUIT_OPEN"},
        ),
        (
            JobEvent(JOB, JobState.QUARANTINED, 30, reason=Reason.RETRIES_EXHAUSTED, code="X", message="hunter2"),
            "quarantine jobs.main",
            {"sickbay.job.reason": "RETRIES_EXHAUSTED", "sickbay.job.error_code": "X"},
        ),
        (JobEvent(JOB, JobState.QUEUED, 30, duplicate=True), "drop jobs.main", {}),
    ],
)
def test_what_leaves_the_queue_otherwise_is_told_in_the_jobs_trace(sent, event, name, facts):
    jobs = JobTracer(sent.tracer, "rabbitmq")
    jobs.arrived(StubDelivery(b"", [], headers={"traceparent": PARENT}))
    jobs.heard(event)
    span = sent.one(name)
    assert (above(span), span.kind, span.start_time) == (ORIGIN, SpanKind.CLIENT, 30_000_000)
    assert span.attributes.items() >= (facts | {"messaging.operation.type": "settle", "sickbay.job.id": "j-1"}).items()
    assert "hunter2" not in str(span.attributes)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.RETRYING])
def test_success_and_retry_need_no_span_of_their_own(sent, state):
    JobTracer(sent.tracer, "rabbitmq").heard(JobEvent(JOB, state, 30))
    assert sent.spans == ()
