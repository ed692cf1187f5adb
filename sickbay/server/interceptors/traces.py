"""Spans of calls, which continue the caller's trace.

Over gRPC the trace is in the call's metadata. Over REST it is in the request's headers, which FastAPI reads: its span is current when the
gateway calls in process, and the in-process channel passes contexts on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import grpc
from grpc_health.v1 import health
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import SpanKind, Tracer

from sickbay.domain.trace import TRACEPARENT, TRACESTATE
from sickbay.server.interceptors.metrics import code_of
from sickbay.server.interceptors.observe import Call
from sickbay.telemetry import spans
from sickbay.telemetry.spans import mark_failed
from sickbay.telemetry.trace_links import extract_context

_OURS: Final = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
"""Codes that are server errors by OpenTelemetry's conventions for gRPC."""
_NAMES: Final = {TRACEPARENT, TRACESTATE}


class CallTracer:
    """A `CallObserver`. Health checks, which are frequent, have no spans."""

    def __init__(self, tracer: Tracer) -> None:
        """Create spans with `tracer`."""
        self._tracer = tracer

    def __call__(self, call: Call) -> AbstractContextManager[object]:
        """Trace one call."""
        return nullcontext() if call.service == health.SERVICE_NAME else self._trace(call)

    @contextmanager
    def _trace(self, call: Call) -> Iterator[None]:
        method = f"{call.service}/{call.method}"
        sent = {name: value for name, value in call.context.invocation_metadata() or () if name in _NAMES and isinstance(value, str)}
        facts: dict[str, Any] = {spans.RPC_SYSTEM: "grpc", spans.RPC_METHOD: method}
        span = self._tracer.start_span(method, extract_context(sent) or get_current(), SpanKind.SERVER, facts)
        # A stream's steps may run in different tasks, and it has no child spans.
        token = None if call.is_stream else attach(trace.set_span_in_context(span))
        code = grpc.StatusCode.OK
        try:
            yield
        except BaseException as error:
            code = code_of(error, call.context)
            if code in _OURS:
                mark_failed(span, code.name)
            raise
        finally:
            if token is not None:
                detach(token)
            span.set_attribute(spans.RPC_STATUS, code.name)
            span.end()
