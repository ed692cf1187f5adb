"""Spans of publishes and releases with everything else away, what messages carry of a trace, and who tells it."""

import logging
import re
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes, rpc_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from sickbay.domain.errors import SettingsError, Unavailable
from sickbay.domain.queries import ReleaseLease
from sickbay.messages.codec import job_message
from sickbay.ports import TO_MAIN, TO_QUARANTINE, TO_RETRY, Message
from sickbay.telemetry import release_traces, run_traces, spans
from sickbay.telemetry.release_traces import ReleaseTraces
from sickbay.telemetry.spans import Traces
from sickbay.telemetry.trace_links import TraceLinks
from sickbay.version import VERSION
from tests.support.engine_bench import StubBroker
from tests.support.spans import JOB, ORIGIN, PARENT, above, carried, here, links, origin, published, publisher, traced

pytest_plugins = ["tests.support.span_fixtures"]


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
        await publisher(stub, sent).publish([job_message(TO_MAIN, JOB)] * count)
    send = sent.one("send jobs.main")
    assert (send.status.status_code, send.status.description, send.attributes["error.type"]) == (
        StatusCode.ERROR,
        "UNAVAILABLE",
        "UNAVAILABLE",
    )
    assert send.events == ()


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
    found = TraceLinks.read(trace_text)
    assert (found.origin.trace_id, found.origin.span_id) == ORIGIN
    assert "sickbay" not in found.origin.trace_state
    assert (found.cause and found.cause.span_id) == cause


def test_a_full_tracestate_of_others_is_kept():
    full = TraceState([(f"v{number}", "1") for number in range(32)])
    context = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=full)
    cause = SpanContext(1, 3, is_remote=True)
    assert "sickbay" not in TraceLinks(context, cause).headers()["tracestate"]


async def test_unsampled_traces_stay_so(sent):
    """What the client decided holds on the whole way."""
    unsampled = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(0))
    token = attach(trace.set_span_in_context(NonRecordingSpan(unsampled)))
    (message,) = await published(sent, job_message(TO_MAIN, JOB))
    detach(token)
    assert message.headers["traceparent"].endswith("-00")
    assert sent.spans == ()


def test_a_release_says_whose_it_is_and_how_many(sent):
    traces = ReleaseTraces(sent.tracer)
    with sent.tracer.start_as_current_span("call") as call:
        traces.releasing([ReleaseLease(JOB)], "people")
        inside = trace.get_current_span().get_span_context().span_id
        traces.released([ReleaseLease(JOB)], "people", None)
        assert trace.get_current_span() is call
    release = sent.one("release")
    assert dict(release.attributes) == {"sickbay.release.by": "people", "sickbay.release.jobs": 1}
    assert (above(release), inside) == (here(call), release.context.span_id)


def test_a_release_that_is_broken_off_is_an_error(sent):
    traces = ReleaseTraces(sent.tracer)
    traces.releasing([], "healer")
    traces.released([], "healer", Unavailable("the broker is away"))
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


def test_the_users_sampler_decides(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    exporter = InMemorySpanExporter()
    Traces(SimpleSpanProcessor(exporter), "i").of("worker").tracer.start_span("x").end()
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(("present", "is_set"), [(trace.ProxyTracerProvider(), True), (TracerProvider(shutdown_on_exit=False), False)])
def test_handlers_get_our_spans_unless_they_have_made_a_provider_of_their_own(monkeypatch, present, is_set):
    given = []
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: present)
    monkeypatch.setattr(trace, "set_tracer_provider", given.append)
    traces = Traces(SimpleSpanProcessor(InMemorySpanExporter()), "i")
    traces.of("jobapi")
    assert given == []
    provider = traces.of("worker", for_handlers=True).provider
    assert given == ([provider] if is_set else [])


def test_a_variable_that_cannot_be_meant_is_a_settings_error(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon")
    with pytest.raises(SettingsError, match="OTEL_"):
        Traces.open("http://localhost:4317", "i")


def test_a_receiver_that_is_away_is_told_once_as_a_warning(caplog):
    log = logging.getLogger("test.exporter")
    log.addFilter(spans._RateLimit())
    for _ in range(2):
        log.warning("transient")
        log.error("failed")
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "failed")]


def test_the_page_names_every_attribute_of_ours():
    page = (Path(__file__).parents[3] / "docs/monitoring.md").read_text("utf-8")
    constants = [vars(module).items() for module in (spans, run_traces, release_traces)]
    told = {text for names in constants for name, text in names if name.isupper() and isinstance(text, str) and "." in text}
    assert told - {VERSION} == set(re.findall(r"`((?:sickbay|messaging|rpc|error)\.[a-z_.]+)`", page)) - {"sickbay.jobs"}
