"""The trace context that travels with a job: W3C's two headers as one text, which everybody hands on and only `telemetry` understands.

Pure, and independent of OpenTelemetry: a service that sends no traces hands the context on all the same, so that a trace does not end
where it passes.
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
    """`traceparent`, and behind a blank `tracestate` if there is one; empty without them, or if they are not what W3C says."""
    parent = headers.get(TRACEPARENT)
    if parent is None:
        return ""
    state = headers.get(TRACESTATE)
    return (checked(f"{parent} {state}") if state else "") or checked(parent)


def trace_headers(trace: str) -> dict[str, str]:
    """The headers of which `trace_of` makes this text."""
    if not trace:
        return {}
    parent, _, state = trace.partition(" ")
    return {TRACEPARENT: parent, TRACESTATE: state} if state else {TRACEPARENT: parent}


def checked(trace: str) -> str:
    """The text if it can be one of ours, else nothing: what strangers send is not kept in a database."""
    return trace if _TRACE.fullmatch(trace) else ""
