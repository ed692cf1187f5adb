"""Spans of the requests of handlers behind HTTP: below the run's, continued by the endpoint."""

import asyncio

import pytest
from opentelemetry.semconv.attributes import http_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from sickbay import JobError
from sickbay.telemetry import http_traces
from sickbay.telemetry.http_traces import HttpTraces
from tests.support.spans import JOB, above, here

pytest_plugins = ["tests.support.span_fixtures"]


def test_the_names_are_those_of_opentelemetry():
    assert http_traces.METHOD == http_attributes.HTTP_REQUEST_METHOD
    assert http_traces.STATUS == http_attributes.HTTP_RESPONSE_STATUS_CODE
    assert (http_traces.SERVER, http_traces.PORT) == (server_attributes.SERVER_ADDRESS, server_attributes.SERVER_PORT)


def test_a_request_is_a_child_of_the_run_and_the_endpoint_continues_it(sent):
    """Its facts are those of the convention, without the path, which may be a secret."""
    with sent.tracer.start_as_current_span("run") as run:
        with HttpTraces(sent.tracer).request(JOB, "billing.internal", 443) as request:
            request.answered(503)
            headers = request.headers
        assert get_current_span() is run
    post = sent.one("POST")
    assert (above(post), post.kind, post.status.status_code) == (here(run), SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(post.attributes) == {
        "http.request.method": "POST",
        "server.address": "billing.internal",
        "server.port": 443,
        "http.response.status_code": 503,
    }
    assert headers["traceparent"].startswith(f"00-{post.context.trace_id:032x}-{post.context.span_id:016x}-")


@pytest.mark.parametrize(
    ("error", "told"),
    [(JobError("SERVICE_UNAVAILABLE", "hunter2"), "SERVICE_UNAVAILABLE"), (asyncio.CancelledError("hunter2"), "CancelledError")],
)
def test_a_failure_is_told_by_its_code_alone(sent, error, told):
    """Messages may contain secrets; a cancelled run has cut its request off."""
    with pytest.raises(type(error)), HttpTraces(sent.tracer).request(JOB, "billing.internal", 443):
        raise error
    post = sent.one("POST")
    assert post.attributes["error.type"] == told
    assert (post.status.status_code is StatusCode.ERROR) == isinstance(error, JobError)
    assert "hunter2" not in f"{post.attributes} {post.status.description} {[event.attributes for event in post.events]}"
