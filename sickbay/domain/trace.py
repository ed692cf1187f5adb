"""The trace context of a job: W3C's two headers as one text, which all services pass on and only `telemetry` interprets.

Pure, and independent of OpenTelemetry: a service without tracing passes the context on too, so that the trace continues after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_PARENT: Final = r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
_TRACE: Final = re.compile(rf"{_PARENT}( [ -~]{{1,512}})?")


def trace_of(headers: Mapping[str, str]) -> str:
    """`traceparent`, and after a blank `tracestate` if there is one; empty without them, or if they are invalid by W3C."""
    parent = headers.get(TRACEPARENT)
    if parent is None:
        return ""
    state = headers.get(TRACESTATE)
    return (valid_trace(f"{parent} {state}") if state else "") or valid_trace(parent)


def trace_headers(trace: str) -> dict[str, str]:
    """The inverse of `trace_of`."""
    if not trace:
        return {}
    parent, _, state = trace.partition(" ")
    return {TRACEPARENT: parent, TRACESTATE: state} if state else {TRACEPARENT: parent}


def no_trace() -> str:
    """The trace context where there is none."""
    return ""


def trace_id_of(trace: str) -> str:
    """The id of the trace, 32 hexadecimal digits; empty without one."""
    return trace.split("-", 2)[1] if trace else ""


def valid_trace(trace: str) -> str:
    """The text if it is a valid context, else empty: arbitrary input is not stored."""
    return trace if _TRACE.fullmatch(trace) else ""
