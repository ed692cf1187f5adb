"""Spans of publishes, and the trace context in the headers of every message that carries a job.

A single message is a span `send`; several in one publish are a span `create` each, so that each job has a context of its own, and one
`send` that links to them. A copy that a run publishes (a retry) is its child; a job that is released from quarantine continues in its own
trace, with a link to the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from secrets import token_hex
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Tracer

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job
from sickbay.domain.trace import trace_of
from sickbay.messages.codec import Undecodable, decode_job
from sickbay.observer import Observer
from sickbay.ports import LANES, TO_RETRY, Message, Queue
from sickbay.telemetry import spans
from sickbay.telemetry.spans import continuing, mark_failed
from sickbay.telemetry.trace_links import TraceLinks

RUN: Final[ContextVar[SpanContext | None]] = ContextVar("run", default=None)
"""The span of the run that this context belongs to; it may have ended, and later spans of its job are its children."""

_SENDING: Final[ContextVar[Span | None]] = ContextVar("sending", default=None)
_QUEUES: Final = {lane.value: queue.value for lane, queue in LANES.items()} | {TO_RETRY: Queue.RETRY.value}


class PublishTraces(Observer):
    """Messages without a job, such as events, have no span."""

    def __init__(self, tracer: Tracer, system: str) -> None:
        """`system` is OpenTelemetry's name of the broker: rabbitmq, or sickbay for the embedded one."""
        self._tracer = tracer
        self._system = system

    def publishing(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages with their trace contexts; the span of the publish lasts until `published`."""
        jobs = [message for message in messages if message.key in _QUEUES]
        if not jobs:
            return messages
        if len(jobs) == 1:
            span, stamped = self._begin("send", jobs[0])
            fresh = iter([stamped])
        else:
            sent, span = self._begin_batch(jobs)
            fresh = iter(sent)
        _SENDING.set(span)
        return [next(fresh) if message.key in _QUEUES else message for message in messages]

    def published(self, messages: Sequence[Message], seconds: float, error: BaseException | None) -> None:  # noqa: ARG002 - the hook's
        """End the span."""
        span = _SENDING.get()
        if span is None:
            return
        _SENDING.set(None)
        if isinstance(error, Unavailable):
            mark_failed(span, "UNAVAILABLE")
        span.end()

    def _begin_batch(self, jobs: Sequence[Message]) -> tuple[list[Message], Span]:
        created = [self._begin("create", message) for message in jobs]
        for span, _ in created:
            span.end()
        queue = _QUEUES[jobs[0].key]
        facts = self._facts("send", queue) | {spans.BATCH: len(jobs)}
        links = [Link(span.get_span_context()) for span, _ in created]
        return [stamped for _, stamped in created], self._tracer.start_span(f"send {queue}", None, SpanKind.CLIENT, facts, links)

    def _begin(self, operation: str, message: Message) -> tuple[Span, Message]:
        """The span that creates this message, and the message with its trace context."""
        carried = TraceLinks.read(trace_of(message.headers))
        parent, links = _parent_and_links(carried)
        queue = _QUEUES[message.key]
        message_id = message.message_id or token_hex(16)
        facts = self._facts(operation, queue) | {spans.MESSAGE_ID: message_id} | _job_in(message)
        span = self._tracer.start_span(f"{operation} {queue}", parent, SpanKind.PRODUCER, facts, links)
        headers = dict(message.headers) | _next_links(carried, span.get_span_context()).headers()
        return span, replace(message, message_id=message_id, headers=headers)

    def _facts(self, operation: str, queue: str) -> dict[str, Any]:
        return messaging(self._system, operation, operation, queue)


def messaging(system: str, operation: str, kind: str, queue: str) -> dict[str, Any]:
    """The attributes of every span about a message; `kind` is OpenTelemetry's name of the operation, `operation` ours."""
    return {spans.SYSTEM: system, spans.OPERATION: operation, spans.OPERATION_TYPE: kind, spans.DESTINATION: queue}


def job_facts(job: Job) -> dict[str, Any]:
    """The attributes of every span about a job."""
    return {
        spans.JOB_ID: job.job_id,
        spans.JOB_TYPE: job.job_type,
        spans.TENANT: job.tenant,
        spans.ATTEMPT: job.attempt,
        spans.GENERATION: job.generation,
    }


def _parent_and_links(carried: TraceLinks | None) -> tuple[Context, list[Link]]:
    """The parent and links of a new message's span: the current span, or, if that is in another trace, the job's with a link to it."""
    now = trace.get_current_span().get_span_context()
    if carried is None or now.trace_id == carried.origin.trace_id:
        return get_current(), []
    return continuing(carried.origin), [Link(now)] if now.is_valid else []


def _next_links(carried: TraceLinks | None, created: SpanContext) -> TraceLinks:
    """The trace links of the new message: a job without a trace begins one here."""
    origin, run = carried.origin if carried else created, RUN.get()
    return TraceLinks(origin, run if run is not None and run.trace_id == origin.trace_id else created)


def _job_in(message: Message) -> dict[str, Any]:
    try:
        return job_facts(decode_job(message.body, message.message_id, 0))
    except Undecodable:  # deferred unchanged
        return {}
