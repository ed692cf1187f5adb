"""Spans of the requests of handlers behind HTTP, below those of the runs; the endpoint continues them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sickbay.domain.errors import JobError
from sickbay.domain.job import Job
from sickbay.telemetry.spans import ERROR_TYPE, mark_failed

# OpenTelemetry's own names; a test compares them with those of its package.
METHOD: Final = "http.request.method"
STATUS: Final = "http.response.status_code"
SERVER: Final = "server.address"
PORT: Final = "server.port"

_propagator: Final = TraceContextTextMapPropagator()


class HttpTraces:
    """Created once per worker; spans are children of the current one, the run's."""

    def __init__(self, tracer: Tracer) -> None:
        """Create spans with this tracer."""
        self._tracer = tracer

    @contextmanager
    def request(self, job: Job, host: str, port: int) -> Iterator[Request]:  # noqa: ARG002 - the run's span has the job's facts
        """Around one request; the span fails with the code of the failure."""
        span = self._tracer.start_span("POST", kind=SpanKind.CLIENT, attributes={METHOD: "POST", SERVER: host, PORT: port})
        token = attach(set_span_in_context(span))
        try:
            yield Request(span)
        except JobError as failure:
            mark_failed(span, failure.code)
            raise
        except BaseException as error:  # above all a cancellation
            span.set_attribute(ERROR_TYPE, type(error).__qualname__)
            raise
        finally:
            detach(token)
            span.end()


class Request:
    """One request and its span."""

    def __init__(self, span: Span) -> None:
        """The span is current."""
        self._span = span
        self._headers: dict[str, str] = {}
        _propagator.inject(self._headers)

    @property
    def headers(self) -> Mapping[str, str]:
        """`traceparent`, and `tracestate` if there is one."""
        return self._headers

    def answered(self, status: int) -> None:
        """The answer has this status."""
        self._span.set_attribute(STATUS, status)
