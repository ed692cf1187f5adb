"""Calls as spans: whose trace they continue, and which of their ends are errors."""

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from sickbay.domain.errors import NotFound, Unavailable
from sickbay.server.inprocess.context import Context, metadata
from sickbay.server.interceptors.observe import Call
from sickbay.server.interceptors.traces import CallTracer
from tests.support.spans import ORIGIN, PARENT, above, here

pytest_plugins = ["tests.support.span_fixtures"]


def call(*sent, is_stream=False, service="s.v1.S"):
    return Call(service, "M", Context(metadata(sent), None), is_stream)


def test_the_callers_trace_goes_on_by_its_metadata(sent):
    with CallTracer(sent.tracer)(call(("traceparent", PARENT), ("tracestate", "acme=1"), ("other-bin", b"x"))):
        sent.tracer.start_span("inside").end()
    span = sent.one("s.v1.S/M")
    assert (above(span), span.kind, span.context.trace_state) == (ORIGIN, SpanKind.SERVER, {"acme": "1"})
    assert above(sent.one("inside")) == here(span)
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("sent_metadata", [(), (("traceparent", "nonsense"),), (("tracestate", "a=1"),), (("traceparent", b"bytes"),)])
def test_without_metadata_it_is_below_what_goes_on_in_this_process(sent, sent_metadata):
    with sent.tracer.start_as_current_span("request") as request, CallTracer(sent.tracer)(call(*sent_metadata)):
        pass
    assert above(sent.one("s.v1.S/M")) == here(request)


def test_a_stream_leaves_the_context_alone(sent):
    """Its steps may run in different tasks."""
    with CallTracer(sent.tracer)(call(is_stream=True)):
        assert not trace.get_current_span().get_span_context().is_valid
    assert sent.one("s.v1.S/M").attributes["rpc.response.status_code"] == "OK"


def test_health_checks_make_no_spans(sent):
    with CallTracer(sent.tracer)(call(service="grpc.health.v1.Health")):
        pass
    assert sent.spans == ()


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (NotFound("hunter2"), "NOT_FOUND", StatusCode.UNSET),
        (Unavailable("hunter2"), "UNAVAILABLE", StatusCode.ERROR),
        (RuntimeError("hunter2"), "INTERNAL", StatusCode.ERROR),
        (GeneratorExit(), "CANCELLED", StatusCode.UNSET),
    ],
)
def test_only_what_is_a_servers_fault_is_an_error(sent, error, code, status):
    with pytest.raises(type(error)), CallTracer(sent.tracer)(call()):
        raise error
    span = sent.one("s.v1.S/M")
    assert (span.attributes["rpc.response.status_code"], span.status.status_code) == (code, status)
    assert "hunter2" not in span.to_json()
