"""Spans of runs, and below them of the job's settlement: parked, quarantined, or dropped as an outdated copy.

Each message is processed in a task of its own, so contexts are set here and never reset. The span of a run ends with the handler, but
stays current: later publishes and log lines belong to it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sickbay.domain.breaker import Permit, PermitKind
from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.outcome import Outcome
from sickbay.domain.trace import trace_of
from sickbay.observer import Observer
from sickbay.ports import Delivery, Queue
from sickbay.telemetry import spans
from sickbay.telemetry.publish_traces import RUN, job_facts, messaging
from sickbay.telemetry.spans import continuing, mark_failed
from sickbay.telemetry.trace_links import TraceLinks

PROBE: Final = "sickbay.run.probe"
OUTCOME: Final = "sickbay.run.outcome"
REASON: Final = "sickbay.job.reason"
CODE: Final = "sickbay.job.error_code"

_propagator: Final = TraceContextTextMapPropagator()
_SPAN: Final[ContextVar[Span | None]] = ContextVar("span", default=None)
_MESSAGE_ID: Final[ContextVar[str]] = ContextVar("message_id", default="")
_SETTLED: Final = {JobState.PARKED: "park", JobState.QUARANTINED: "quarantine"}


def current_headers() -> dict[str, str]:
    """The context of the current span, such as the run that this task has begun, for whoever goes on with it elsewhere."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


class RunTraces(Observer):
    """Creates the spans of a worker."""

    def __init__(self, tracer: Tracer, system: str) -> None:
        """`system` is OpenTelemetry's name of the broker."""
        self._tracer = tracer
        self._system = system

    def received(self, delivery: Delivery) -> None:
        """Make the job's own context current until it runs."""
        _MESSAGE_ID.set(delivery.message_id)
        carried = TraceLinks.read(trace_of(delivery.headers))
        if carried is not None:
            attach(continuing(carried.origin))

    def run_started(self, job: Job, permit: Permit) -> None:
        """Start the span of a run; it is current from now on."""
        carried = TraceLinks.read(job.trace)
        facts = self._facts("process", "process", job) | {PROBE: permit.kind is PermitKind.PROBE}
        parent = continuing(carried.origin) if carried else Context()
        name = f"process {Queue.MAIN.value}"
        span = self._tracer.start_span(name, parent, SpanKind.CONSUMER, facts, carried.links if carried else None)
        attach(trace.set_span_in_context(span))
        RUN.set(span.get_span_context())
        _SPAN.set(span)

    def run_ended(self, job: Job, permit: Permit, outcome: Outcome | None, seconds: float) -> None:  # noqa: ARG002 - the hook's
        """End the span of the run."""
        span = _SPAN.get()
        if span is None:
            return
        _SPAN.set(None)
        if outcome is not None:
            span.set_attribute(OUTCOME, outcome.kind.value)
            if outcome.code:
                mark_failed(span, outcome.code)
        span.end()

    def settled(self, event: JobEvent) -> None:
        """A span for jobs that are parked, quarantined or dropped."""
        operation = "drop" if event.duplicate else _SETTLED.get(event.state)
        if operation is None:
            return
        facts = self._facts(operation, "settle", event.job)
        if event.reason is not None:
            facts[REASON] = event.reason.value
        if event.code:
            facts[CODE] = event.code
        # This hook runs afterwards; the event was created just before.
        begun = event.at * 1_000_000
        self._tracer.start_span(f"{operation} {Queue.MAIN.value}", get_current(), SpanKind.CLIENT, facts, start_time=begun).end()

    def _facts(self, operation: str, kind: str, job: Job) -> dict[str, Any]:
        facts = messaging(self._system, operation, kind, Queue.MAIN.value) | job_facts(job)
        if _MESSAGE_ID.get():
            facts[spans.MESSAGE_ID] = _MESSAGE_ID.get()
        return facts
