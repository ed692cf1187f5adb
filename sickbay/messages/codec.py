"""The messages on the queues: JSON that an operator can read in the broker's management UI (`design.md`, section 4).

A job is `{"jobType": ..., "payload": {...}}` plus our own fields, all optional, so that any program can publish one.
An event is the same with `state`, `at`, ...; several events are sent as `{"events": [...]}`. The payload is never parsed here:
its bytes stay unchanged.

A job's trace context is in the headers of the message that carries it. In an event that sets a job aside it is in the body:
there it is part of the job, kept in the ledger and in `jobs.quarantine` until the job is released; headers are lost in reconciliation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import msgspec

from sickbay.domain.failure import (
    MAX_TRACEBACK_BYTES,
    Failure,
    bounded_failures,
    first_and_newest,
    last_bytes,
)
from sickbay.domain.job import NAME_PATTERN, Job, JobEvent, JobState, is_name
from sickbay.domain.lane import lane_of
from sickbay.domain.progress import MAX_PROGRESS_CHARS, Progress
from sickbay.domain.result import MAX_NOTE_CHARS, Result, read_result
from sickbay.domain.storable import LAST_MS, UNREACHABLE, id_of, is_storable, not_ahead, storable
from sickbay.domain.trace import trace_headers, trace_of, valid_trace
from sickbay.messages.bodies import MAX_NAME_CHARS, MAX_TEXT_CHARS, BatchBody, Body, FailureBody, ProgressBody, ShapeOfBody
from sickbay.ports import Message

MAX_ID_CHARS: Final = 64
MAX_BODY_BYTES: Final = 14 * 1024 * 1024
"""A larger message is rejected: its next copy, with its errors, might exceed RabbitMQ's limit (16 MiB)."""
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Undecodable(ValueError):
    """The message is not a job; the text says why and is kept with it."""


_encoder: Final = msgspec.json.Encoder()
_job_decoder: Final = msgspec.json.Decoder(Body)
_batch_decoder: Final = msgspec.json.Decoder(BatchBody)
_shape_decoder: Final = msgspec.json.Decoder(ShapeOfBody)


def job_message(key: str, job: Job, delay_ms: int = 0, lane: str = "") -> Message:
    """The message with a job for a worker; one to `TO_RETRY` returns to `lane`, or to that of its priority."""
    return Message(
        key, encode_job(job), delay_ms, lane or lane_of(job.priority), headers=trace_headers(job.trace) if job.trace else _NO_HEADERS
    )


def encode_job(job: Job) -> bytes:
    """The body of a job's message."""
    return _encoder.encode(_body(job))


def decode_job(body: bytes, message_id: str, now: int, headers: Mapping[str, str] = _NO_HEADERS) -> Job:
    """The job in a message; without `jobId` it gets the message's id, without `submittedAt` it gets `now` (ms).

    Raises Undecodable with a sentence that says what is wrong.
    """
    if len(body) > MAX_BODY_BYTES:
        raise Undecodable(f"the message is not a job: it has {len(body)} bytes, and a job at most {MAX_BODY_BYTES}")
    try:
        found = _job_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"the message is not a job: {error}") from error
    _check_names(found)
    if found.job_id in UNREACHABLE:
        raise Undecodable(f"jobId cannot be {found.job_id!r}: such a job has no URL")
    if isinstance(found.payload, msgspec.UnsetType):
        raise Undecodable("payload must be a JSON object")
    return _job(found, found.job_id or id_of(message_id), now, trace_of(headers) if headers else "")


def encode_event(event: JobEvent) -> bytes:
    """One event in a message of its own; a set-aside job is complete in it."""
    return _encoder.encode(_event_body(event))


def encode_events(events: Iterable[JobEvent]) -> bytes:
    """Several events in one message."""
    return _encoder.encode(BatchBody(tuple(map(_event_body, events))))


def decode_events(body: bytes, now: int | None = None) -> Sequence[JobEvent]:
    """The events in a message, one or several; times are cut to a day after `now` (ms). Raises Undecodable."""
    try:
        several = _shape_decoder.decode(body).events is not msgspec.UNSET
        bodies = _batch_decoder.decode(body).events if several else (_job_decoder.decode(body),)
        return [_event(found, LAST_MS if now is None else now) for found in bodies]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"the message is not an event: {error}") from error


def _check_names(body: Body, *, may_lack: bool = False) -> None:
    """`may_lack`: type and tenant may be empty, because the ledger has them."""
    if not (is_name(body.job_type) or (may_lack and not body.job_type)):
        raise Undecodable(f"jobType must match {NAME_PATTERN}")
    if not (is_name(body.tenant) or (may_lack and not body.tenant)):
        raise Undecodable(f"tenant must match {NAME_PATTERN}")
    if len(body.job_id) > MAX_ID_CHARS:
        raise Undecodable(f"jobId has at most {MAX_ID_CHARS} characters")
    if not is_storable(body.job_id):
        raise Undecodable("jobId has a character that cannot be stored (NUL)")


def _payload(raw: msgspec.Raw) -> bytes:
    payload = bytes(raw)
    if not payload.lstrip().startswith(b"{"):
        raise Undecodable("payload must be a JSON object")
    if not payload.isascii():
        payload.decode()
    return payload


def _body(job: Job) -> Body:
    return Body(
        job_type=job.job_type,
        payload=msgspec.Raw(job.payload_json),
        job_id=job.job_id,
        tenant=job.tenant,
        attempt=job.attempt,
        generation=job.generation,
        errors=tuple(map(_error, job.failures)),
        submitted_at=job.submitted_at,
        maybe_duplicate=job.maybe_duplicate,
        priority=job.priority,
        run_at=job.run_at,
        schedule_id=job.schedule_id,
        tick_at=job.tick_at,
    )


def _job(body: Body, job_id: str, now: int, trace: str = "") -> Job:
    try:
        payload = b"" if isinstance(body.payload, msgspec.UnsetType) else _payload(body.payload)
    except UnicodeDecodeError as error:
        raise Undecodable(f"payload is not UTF-8: {error}") from error
    return Job(
        job_id=job_id,
        job_type=body.job_type,
        payload_json=payload,
        tenant=body.tenant,
        attempt=body.attempt,
        generation=body.generation,
        failures=bounded_failures([_failure(one) for one in first_and_newest(body.errors)]),
        submitted_at=body.submitted_at or now,
        maybe_duplicate=body.maybe_duplicate,
        trace=trace or (valid_trace(body.trace) if body.trace else ""),
        priority=body.priority,
        run_at=body.run_at,
        schedule_id=body.schedule_id if body.schedule_id and is_name(body.schedule_id) else "",
        tick_at=body.tick_at,
    )


def _error(failure: Failure) -> FailureBody:
    return FailureBody(
        failure.at,
        failure.attempt,
        failure.code,
        failure.message,
        failure.generation,
        failure.traceback or msgspec.UNSET,
        failure.retry_at or msgspec.UNSET,
        failure.blameless or msgspec.UNSET,
    )


def _failure(failure: FailureBody) -> Failure:
    code, message = storable(failure.code, MAX_NAME_CHARS), storable(failure.message, MAX_TEXT_CHARS)
    traceback = "" if isinstance(failure.traceback, msgspec.UnsetType) else storable(failure.traceback)
    return Failure(
        failure.time,
        failure.generation,
        failure.attempt,
        code,
        message,
        last_bytes(traceback, MAX_TRACEBACK_BYTES),
        0 if isinstance(failure.retry_at, msgspec.UnsetType) else failure.retry_at,
        0 if isinstance(failure.blameless, msgspec.UnsetType) else failure.blameless,
    )


def _event_body(event: JobEvent) -> Body:
    job, state = event.job, event.state
    is_alone = state.is_in_ledger_alone
    is_later = is_alone and state is JobState.SCHEDULED
    # Always if the ledger alone has the job, for an accepted one if it was left in.
    carries_payload = is_alone or (state is JobState.QUEUED and not event.duplicate and bool(job.payload_json))
    return Body(
        job_type=job.job_type,
        payload=msgspec.Raw(job.payload_json) if carries_payload else msgspec.UNSET,
        job_id=job.job_id,
        tenant=job.tenant,
        attempt=job.attempt,
        generation=job.generation,
        errors=tuple(map(_error, job.failures)),
        submitted_at=job.submitted_at,
        priority=job.priority,
        state=state,
        at=event.at,
        started_at=event.started_at,
        run=event.run,
        actor=event.actor,
        reason=event.reason,
        code=event.code,
        message=event.message,
        duplicate=event.duplicate,
        trace=job.trace if is_alone else "",
        result=msgspec.UNSET if event.result is None or not event.result.json else msgspec.Raw(event.result.json),
        result_note="" if event.result is None else event.result.note,
        progress=msgspec.UNSET if event.progress is None else _progress_body(event.progress),
        cancel_requested=event.cancel_requested,
        run_at=job.run_at if is_later else 0,
        schedule_id=job.schedule_id if is_later else "",
        tick_at=job.tick_at if is_later else 0,
    )


def _event(body: Body, now: int) -> JobEvent:
    state = body.state
    if isinstance(state, msgspec.UnsetType) or not body.job_id:
        raise Undecodable("an event needs jobId and state")
    is_alone = state.is_in_ledger_alone
    if is_alone and isinstance(body.payload, msgspec.UnsetType):
        raise Undecodable("an event that sets a job aside, or schedules one, needs its payload")
    _check_names(body, may_lack=not is_alone)
    at = not_ahead(body.at, now)
    job = _job(body, body.job_id, at)
    return JobEvent(
        job=job if job.submitted_at <= now else replace(job, submitted_at=not_ahead(job.submitted_at, now)),
        state=state,
        at=at,
        started_at=None if body.started_at is None else not_ahead(body.started_at, now),
        run=storable(body.run, MAX_NAME_CHARS),
        actor=storable(body.actor, MAX_NAME_CHARS),
        reason=body.reason,
        code=storable(body.code, MAX_NAME_CHARS),
        message=storable(body.message, MAX_TEXT_CHARS),
        duplicate=body.duplicate,
        result=_result(body) if state is JobState.SUCCEEDED else None,
        progress=_progress(body.progress, now) if state is JobState.RUNNING and not isinstance(body.progress, msgspec.UnsetType) else None,
        cancel_requested=body.cancel_requested and state is JobState.RUNNING,
    )


def _progress_body(progress: Progress) -> ProgressBody:
    return ProgressBody(progress.fraction, progress.at, progress.message)


def _progress(body: ProgressBody, now: int) -> Progress:
    return Progress(min(max(body.fraction, 0.0), 1.0), storable(body.message, MAX_PROGRESS_CHARS), not_ahead(body.at, now))


def _result(body: Body) -> Result | None:
    if not isinstance(body.result, msgspec.UnsetType):
        return read_result(bytes(body.result))
    return Result(note=storable(body.result_note, MAX_NOTE_CHARS)) if body.result_note else None
