"""The trace context of a message: the context in which the job was submitted, and the span that created this copy of it.

The first is W3C's `traceparent`, and stays the same for the whole life of a job, through retries, parking and release: it is the
message's creation context, which must not change by OpenTelemetry's conventions. So all runs of a job are siblings below the span that
submitted it, however often it was retried, and traces stay flat.

The second is what each run links to: the previous run, or the release. It is the id of a span in the same trace, sent as our member of
`tracestate`, which W3C intends for that purpose: a vendor's own parent.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sickbay.domain.trace import trace_headers

MEMBER: Final = "sickbay"

_propagator: Final = TraceContextTextMapPropagator()


class TraceLinks(NamedTuple):
    """`origin` is the job's context, without our member; `cause` the span that created this copy, None if the origin did."""

    origin: SpanContext
    cause: SpanContext | None = None

    @classmethod
    def read(cls, trace_text: str) -> Self | None:
        """From `Job.trace`; None if there is no trace."""
        found = trace.get_current_span(_propagator.extract(trace_headers(trace_text), Context())).get_span_context()
        if not found.is_valid:
            return None
        member = found.trace_state.get(MEMBER)
        if member is None:
            return cls(found)
        state = found.trace_state.delete(MEMBER)
        return cls(_like(found, found.span_id, state), _like(found, _number(member), state) if _number(member) else None)

    def headers(self) -> dict[str, str]:
        """For the next message."""
        state = self.origin.trace_state
        if self.cause is not None and self.cause.span_id != self.origin.span_id:
            state = state.update(MEMBER, f"{self.cause.span_id:016x}")
        carrier: dict[str, str] = {}
        context = _like(self.origin, self.origin.span_id, state)
        _propagator.inject(carrier, trace.set_span_in_context(NonRecordingSpan(context), Context()))
        return carrier

    @property
    def links(self) -> list[Link]:
        """What a run of this copy links to."""
        return [] if self.cause is None else [Link(self.cause)]


def extract_context(headers: dict[str, str]) -> Context | None:
    """The context that a caller sent in these headers; None if there is none, so that the current one applies."""
    context = _propagator.extract(headers, Context()) if "traceparent" in headers else Context()
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _like(context: SpanContext, span_id: int, state: TraceState) -> SpanContext:
    return SpanContext(context.trace_id, span_id, is_remote=True, trace_flags=context.trace_flags, trace_state=state)


def _number(member: str) -> int:
    """The span's id; 0 if it is invalid."""
    try:
        return int(member, 16) if len(member) == 16 else 0  # noqa: PLR2004 - W3C's length of a span id
    except ValueError:
        return 0
