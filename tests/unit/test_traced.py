"""Spans of publishes, runs and releases with everything else away: where they are in the trace, and what they say."""

import logging
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes, rpc_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from controlplane.traced import TracedReleaser
from sickbay.circuit import Key, Permit, PermitKind
from sickbay.envelope import job_message
from sickbay.errors import SettingsError, Unavailable
from sickbay.job import Event, Job, Reason, State
from sickbay.outcome import SUCCESS, Kind, Outcome
from sickbay.ports import TO_MAIN, TO_QUARANTINE, TO_RETRY, Message
from sickbay.queries import Claim
from sickbay.sdk import HandlerSpec
from sickbay.telemetry import spans
from sickbay.telemetry.carried import Carried
from sickbay.telemetry.spans import Traces
from sickbay.telemetry.traced import RUN, TracedBroker
from sickbay.trace import trace_of
from tests.unit.engine_stubs import StubBroker, StubDelivery
from worker.traced import JobTracer, TracedRunner

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
ORIGIN = (0xAB * 0x01010101010101010101010101010101, 0xCD * 0x0101010101010101)
JOB = Job("j-1", "email", b'{"secret": "hunter2"}', submitted_at=1)


class Sent:
    """A tracer, and the spans it made by name."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    def one(self, name):
        (span,) = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture(autouse=True)
def own_context():
    token, run = attach(Context()), RUN.set(None)
    yield
    RUN.reset(run)
    detach(token)


def here(span):
    return (span.context.trace_id, span.context.span_id)


def above(span):
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def links(span):
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def carried(message):
    return Carried.read(trace_of(message.headers))


def origin(message):
    context = carried(message).origin
    return (context.trace_id, context.span_id)


def traced(job=JOB, state=""):
    return replace(job, trace=f"{PARENT} {state}".strip())


async def published(sent, *messages):
    stub = StubBroker([])
    await TracedBroker(stub, sent.tracer, "rabbitmq").publish(messages)
    return stub.published


def test_the_names_are_those_of_opentelemetry():
    for ours, theirs in {
        spans.SYSTEM: messaging_attributes.MESSAGING_SYSTEM,
        spans.DESTINATION: messaging_attributes.MESSAGING_DESTINATION_NAME,
        spans.OPERATION: messaging_attributes.MESSAGING_OPERATION_NAME,
        spans.OPERATION_TYPE: messaging_attributes.MESSAGING_OPERATION_TYPE,
        spans.MESSAGE_ID: messaging_attributes.MESSAGING_MESSAGE_ID,
        spans.BATCH: messaging_attributes.MESSAGING_BATCH_MESSAGE_COUNT,
        spans.RPC_SYSTEM: rpc_attributes.RPC_SYSTEM_NAME,
        spans.RPC_METHOD: rpc_attributes.RPC_METHOD,
        spans.RPC_STATUS: rpc_attributes.RPC_RESPONSE_STATUS_CODE,
        spans.ERROR_TYPE: error_attributes.ERROR_TYPE,
    }.items():
        assert ours == theirs
    kinds = {kind.value for kind in messaging_attributes.MessagingOperationTypeValues}
    assert {"send", "create", "process", "settle"} <= kinds
    assert messaging_attributes.MessagingSystemValues.RABBITMQ.value == "rabbitmq"


async def test_a_new_job_begins_in_the_span_that_sends_it(sent):
    with sent.tracer.start_as_current_span("call") as call:
        (message,) = await published(sent, job_message(TO_MAIN, JOB))
    send = sent.one("send jobs.main")
    assert (above(send), send.kind, links(send)) == (here(call), SpanKind.PRODUCER, [])
    assert origin(message) == here(send)
    assert carried(message).cause is None
    assert message.message_id == send.attributes["messaging.message.id"]
    assert "hunter2" not in str(send.attributes)


async def test_a_job_that_comes_back_stays_in_its_trace_and_is_linked_to_what_brought_it(sent):
    with sent.tracer.start_as_current_span("release") as release:
        (message,) = await published(sent, job_message(TO_MAIN, traced(state="acme=1,sickbay=00000000000000ff")))
    send = sent.one("send jobs.main")
    assert (above(send), links(send)) == (ORIGIN, [here(release)])
    assert origin(message) == ORIGIN
    assert carried(message).cause.span_id == send.context.span_id
    assert message.headers["tracestate"] == f"sickbay={send.context.span_id:016x},acme=1"


async def test_several_are_created_each_in_its_own_trace_and_sent_together(sent):
    event = Message("job.accepted", b"{}")
    with sent.tracer.start_as_current_span("call") as call:
        first, told, second = await published(sent, job_message(TO_MAIN, JOB), event, job_message(TO_MAIN, traced()))
    created = [span for span in sent.spans if span.name == "create jobs.main"]
    send = sent.one("send jobs.main")
    assert told == event
    assert [above(span) for span in created] == [here(call), ORIGIN]
    assert (origin(first), origin(second)) == (here(created[0]), ORIGIN)
    assert carried(second).cause.span_id == created[1].context.span_id
    assert (above(send), links(send)) == (here(call), [here(span) for span in created])
    assert send.attributes["messaging.batch.message_count"] == 2


async def test_events_and_copies_of_the_sweep_make_no_spans(sent):
    messages = [Message("job.events", b"{}"), Message(TO_QUARANTINE, b"{}")]
    assert await published(sent, *messages) == messages
    assert sent.spans == ()


async def test_a_message_that_nobody_can_read_is_sent_as_it_is(sent):
    (message,) = await published(sent, Message(TO_RETRY, b"\0", 5, headers={"other": "x"}))
    assert (message.body, message.delay_ms, message.headers["other"]) == (b"\0", 5, "x")
    assert "sickbay.job.id" not in sent.one("send jobs.retry").attributes


@pytest.mark.parametrize("count", [1, 2])
async def test_a_publish_that_fails_says_so_without_words(sent, count):
    stub = StubBroker([])
    stub.failing = 1
    with pytest.raises(Unavailable):
        await TracedBroker(stub, sent.tracer, "rabbitmq").publish([job_message(TO_MAIN, JOB)] * count)
    send = sent.one("send jobs.main")
    assert (send.status.status_code, send.status.description, send.attributes["error.type"]) == (
        StatusCode.ERROR,
        "UNAVAILABLE",
        "UNAVAILABLE",
    )
    assert send.events == ()


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
NORMAL = Permit(Key("email"), PermitKind.NORMAL, 1, "j-1")


async def test_a_retry_is_a_sibling_of_the_run_before_and_links_to_it(sent):
    jobs = JobTracer(sent.tracer, "rabbitmq")
    runner = TracedRunner(Runs(sent, Outcome(Kind.TRANSIENT, "NETWORK_ERROR", "hunter2")), jobs)
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
    await TracedRunner(Runs(sent, Outcome(Kind.TRANSIENT, "X")), JobTracer(sent.tracer, "sickbay")).run(SPEC, JOB, NORMAL)
    (message,) = await published(sent, job_message(TO_RETRY, JOB))
    run = sent.one("process jobs.main")
    assert above(run) is None
    assert carried(message).origin.trace_id == run.context.trace_id
    assert carried(message).cause.span_id == run.context.span_id


async def test_a_probe_says_that_it_is_one(sent):
    probe = Permit(Key("email"), PermitKind.PROBE, 1, "j-1")
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
            Event(JOB, State.PARKED, 30, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN"),
            "park jobs.main",
            {"sickbay.job.reason": "CIRCUIT_OPEN", "sickbay.job.error_code": "CIRCUIT_OPEN"},
        ),
        (
            Event(JOB, State.QUARANTINED, 30, reason=Reason.RETRIES_EXHAUSTED, code="X", message="hunter2"),
            "quarantine jobs.main",
            {"sickbay.job.reason": "RETRIES_EXHAUSTED", "sickbay.job.error_code": "X"},
        ),
        (Event(JOB, State.QUEUED, 30, duplicate=True), "drop jobs.main", {}),
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


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.RETRYING])
def test_success_and_retry_need_no_span_of_their_own(sent, state):
    JobTracer(sent.tracer, "rabbitmq").heard(Event(JOB, state, 30))
    assert sent.spans == ()


@pytest.mark.parametrize(
    ("trace_text", "cause"),
    [
        (f"{PARENT} sickbay=00000000000000ff", 0xFF),
        (f"{PARENT} sickbay=xyz", None),
        (f"{PARENT} sickbay=zzzzzzzzzzzzzzzz", None),
        (f"{PARENT} sickbay=0000000000000000", None),
        (PARENT, None),
    ],
)
def test_our_member_of_tracestate_names_the_cause_or_nothing(trace_text, cause):
    found = Carried.read(trace_text)
    assert (found.origin.trace_id, found.origin.span_id) == ORIGIN
    assert "sickbay" not in found.origin.trace_state
    assert (found.cause and found.cause.span_id) == cause


def test_a_full_tracestate_of_others_is_kept():
    full = TraceState([(f"v{number}", "1") for number in range(32)])
    context = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=full)
    cause = SpanContext(1, 3, is_remote=True)
    assert "sickbay" not in Carried(context, cause).headers()["tracestate"]


async def test_unsampled_traces_stay_so(sent):
    """What the client decided holds on the whole way."""
    unsampled = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(0))
    token = attach(trace.set_span_in_context(NonRecordingSpan(unsampled)))
    (message,) = await published(sent, job_message(TO_MAIN, JOB))
    detach(token)
    assert message.headers["traceparent"].endswith("-00")
    assert sent.spans == ()


class Releaser:
    async def release(self, claims):
        if not claims:
            raise Unavailable("the broker is away")
        return ["record"]


async def test_a_release_says_whose_it_is_and_how_many(sent):
    assert await TracedReleaser(Releaser(), sent.tracer, "healer").release([Claim(JOB)]) == ["record"]
    assert dict(sent.one("release").attributes) == {"sickbay.release.by": "healer", "sickbay.release.jobs": 1}


async def test_a_release_that_is_broken_off_is_an_error(sent):
    with pytest.raises(Unavailable):
        await TracedReleaser(Releaser(), sent.tracer, "people").release([])
    release = sent.one("release")
    assert (release.status.status_code, release.attributes["error.type"], release.events) == (StatusCode.ERROR, "UNAVAILABLE", ())


def named(monkeypatch, **env):
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    exporter = InMemorySpanExporter()
    traces = Traces(SimpleSpanProcessor(exporter), "host-1")
    traces.of("worker").tracer.start_span("x").end()
    return exporter.get_finished_spans()[0].resource.attributes


def test_each_service_tells_its_own_name(monkeypatch):
    told = named(monkeypatch)
    assert (told["service.name"], told["service.instance.id"]) == ("sickbay-worker", "host-1")


@pytest.mark.parametrize("env", [{"OTEL_SERVICE_NAME": "mine"}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine,service.instance.id=i"}])
def test_the_users_own_name_wins(monkeypatch, env):
    assert named(monkeypatch, **env)["service.name"] == "mine"


def test_a_variable_that_cannot_be_meant_is_a_settings_error(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon")
    with pytest.raises(SettingsError, match="OTEL_"):
        Traces.open("http://localhost:4317", "i")


def test_a_receiver_that_is_away_is_told_once_as_a_warning(caplog):
    log = logging.getLogger("test.exporter")
    log.addFilter(spans._Calm())
    for _ in range(2):
        log.warning("transient")
        log.error("failed")
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "failed")]
