"""Spans of runs, and of what else becomes of a message: where they are in the trace, and what they say."""

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.messages.codec import job_message
from sickbay.ports import TO_RETRY
from sickbay.telemetry.publish_traces import RUN
from sickbay.telemetry.run_traces import RunTraces
from tests.support.engine_bench import StubDelivery
from tests.support.spans import JOB, ORIGIN, PARENT, above, carried, here, links, origin, published, traced

pytest_plugins = ["tests.support.span_fixtures"]


def run(sent, outcome, job, permit=None, traces=None):
    """A run whose handler makes a span of its own, as its traces see it."""
    permit, traces = permit or NORMAL, traces or RunTraces(sent.tracer, "rabbitmq")
    traces.run_started(job, permit)
    sent.tracer.start_span("the handler's own").end()
    traces.run_ended(job, permit, outcome, 0.1)


NORMAL = Permit(BreakerKey("email"), PermitKind.NORMAL, 1, "j-1")


async def test_a_retry_is_a_sibling_of_the_run_before_and_links_to_it(sent):
    traces = RunTraces(sent.tracer, "rabbitmq")
    traces.received(StubDelivery(b"", [], headers={"traceparent": PARENT}, message_id="m-7"))
    run(sent, Outcome(OutcomeKind.TRANSIENT, "NETWORK_ERROR", "hunter2"), traced(), traces=traces)
    (message,) = await published(sent, job_message(TO_RETRY, traced()))
    first = sent.one("process jobs.main")
    assert (above(first), links(first), first.kind) == (ORIGIN, [], SpanKind.CONSUMER)
    assert above(sent.one("the handler's own")) == above(sent.one("send jobs.retry")) == here(first)
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "NETWORK_ERROR")
    assert (first.attributes["messaging.message.id"], first.attributes["sickbay.run.outcome"]) == ("m-7", "transient")
    assert origin(message) == ORIGIN
    assert carried(message).cause.span_id == first.context.span_id

    RUN.set(None)
    again = traced(state=message.headers["tracestate"])
    run(sent, SUCCESS, again)
    second = sent.spans[-1]
    assert (above(second), links(second), second.status.status_code) == (ORIGIN, [here(first)], StatusCode.UNSET)
    assert "sickbay" not in second.context.trace_state, "handlers do not hand our member on"


async def test_a_job_without_a_trace_begins_one_with_its_first_run(sent):
    run(sent, Outcome(OutcomeKind.TRANSIENT, "X"), JOB)
    (message,) = await published(sent, job_message(TO_RETRY, JOB))
    first = sent.one("process jobs.main")
    assert above(first) is None
    assert carried(message).origin.trace_id == first.context.trace_id
    assert carried(message).cause.span_id == first.context.span_id


async def test_a_probe_says_that_it_is_one(sent):
    probe = Permit(BreakerKey("email"), PermitKind.PROBE, 1, "j-1")
    run(sent, SUCCESS, JOB, probe)
    assert sent.one("process jobs.main").attributes["sickbay.run.probe"] is True


async def test_a_run_that_did_not_begin_after_all_ends_its_span(sent):
    run(sent, None, JOB)
    span = sent.one("process jobs.main")
    assert span.end_time is not None
    assert "sickbay.run.outcome" not in span.attributes


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
    traces = RunTraces(sent.tracer, "rabbitmq")
    traces.received(StubDelivery(b"", [], headers={"traceparent": PARENT}))
    traces.settled(event)
    span = sent.one(name)
    assert (above(span), span.kind, span.start_time) == (ORIGIN, SpanKind.CLIENT, 30_000_000)
    assert span.attributes.items() >= (facts | {"messaging.operation.type": "settle", "sickbay.job.id": "j-1"}).items()
    assert "hunter2" not in str(span.attributes)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.RETRYING])
def test_success_and_retry_need_no_span_of_their_own(sent, state):
    RunTraces(sent.tracer, "rabbitmq").settled(JobEvent(JOB, state, 30))
    assert sent.spans == ()
