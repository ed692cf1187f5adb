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
from typing import Annotated, Final

import msgspec

from sickbay.domain.job import (
    DEFAULT_TENANT,
    MAX_TRACEBACK_BYTES,
    NAME_PATTERN,
    Failure,
    Job,
    JobEvent,
    JobState,
    Reason,
    bounded_failures,
    first_and_newest,
    is_name,
    last_bytes,
)
from sickbay.domain.lane import lane_of
from sickbay.domain.priority import Priority
from sickbay.domain.storable import LAST_MS, MAX_COUNT, UNREACHABLE, id_of, is_storable, not_ahead, storable
from sickbay.domain.trace import trace_headers, trace_of, valid_trace
from sickbay.ports import Message

MAX_ID_CHARS: Final = 64
MAX_BODY_BYTES: Final = 14 * 1024 * 1024
"""A larger message is rejected: its next copy, with its errors, might exceed RabbitMQ's limit (16 MiB)."""
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Undecodable(ValueError):
    """The message is not a job; the text says why and is kept with it."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
_Millis = Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]
_MAX_NAME_CHARS: Final = 200
"""The limit for a run, an actor, an error code; longer ones are cut."""
_MAX_TEXT_CHARS: Final = 20_000
"""The limit for a message in an event or an error."""


class _Failure(msgspec.Struct, frozen=True):
    time: _Millis
    attempt: _Count
    code: str
    message: str = ""
    generation: _Count = 0
    traceback: str | msgspec.UnsetType = msgspec.UNSET
    retry_at: _Millis | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="retryAt")
    blameless: _Count | msgspec.UnsetType = msgspec.UNSET


class _Body(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    job_type: str
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    job_id: str = ""
    tenant: str = DEFAULT_TENANT
    attempt: _Count = 0
    generation: _Count = 0
    errors: tuple[_Failure, ...] = ()
    submitted_at: _Millis = 0
    maybe_duplicate: bool = False
    priority: Priority = Priority.NORMAL
    state: JobState | msgspec.UnsetType = msgspec.UNSET
    at: _Millis = 0
    started_at: _Millis | None = None
    run: str = ""
    actor: str = ""
    reason: Reason | None = None
    code: str = ""
    message: str = ""
    duplicate: bool = False
    trace: str = ""


class _Batch(msgspec.Struct, frozen=True):
    events: tuple[_Body, ...]


class _Shape(msgspec.Struct, frozen=True):
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder: Final = msgspec.json.Encoder()
_job_decoder: Final = msgspec.json.Decoder(_Body)
_batch_decoder: Final = msgspec.json.Decoder(_Batch)
_shape_decoder: Final = msgspec.json.Decoder(_Shape)


def job_message(key: str, job: Job, delay_ms: int = 0) -> Message:
    """The message with a job for a worker; one to `TO_RETRY` returns to the lane of its priority."""
    return Message(key, encode_job(job), delay_ms, lane_of(job.priority), headers=trace_headers(job.trace) if job.trace else _NO_HEADERS)


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
    return _encoder.encode(_Batch(tuple(map(_event_body, events))))


def decode_events(body: bytes, now: int | None = None) -> Sequence[JobEvent]:
    """The events in a message, one or several; times are cut to a day after `now` (ms). Raises Undecodable."""
    try:
        several = _shape_decoder.decode(body).events is not msgspec.UNSET
        bodies = _batch_decoder.decode(body).events if several else (_job_decoder.decode(body),)
        return [_event(found, LAST_MS if now is None else now) for found in bodies]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"the message is not an event: {error}") from error


def _check_names(body: _Body, *, may_lack: bool = False) -> None:
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


def _body(job: Job) -> _Body:
    return _Body(
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
    )


def _job(body: _Body, job_id: str, now: int, trace: str = "") -> Job:
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
    )


def _error(failure: Failure) -> _Failure:
    return _Failure(
        failure.at,
        failure.attempt,
        failure.code,
        failure.message,
        failure.generation,
        failure.traceback or msgspec.UNSET,
        failure.retry_at or msgspec.UNSET,
        failure.blameless or msgspec.UNSET,
    )


def _failure(failure: _Failure) -> Failure:
    code, message = storable(failure.code, _MAX_NAME_CHARS), storable(failure.message, _MAX_TEXT_CHARS)
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


def _carries_payload(event: JobEvent) -> bool:
    """Whether the event has the payload: always for a set-aside job, for an accepted one if it was left in."""
    return event.state.in_quarantine or (event.state is JobState.QUEUED and not event.duplicate and bool(event.job.payload_json))


def _event_body(event: JobEvent) -> _Body:
    job = event.job
    return _Body(
        job_type=job.job_type,
        payload=msgspec.Raw(job.payload_json) if _carries_payload(event) else msgspec.UNSET,
        job_id=job.job_id,
        tenant=job.tenant,
        attempt=job.attempt,
        generation=job.generation,
        errors=tuple(map(_error, job.failures)),
        submitted_at=job.submitted_at,
        priority=job.priority,
        state=event.state,
        at=event.at,
        started_at=event.started_at,
        run=event.run,
        actor=event.actor,
        reason=event.reason,
        code=event.code,
        message=event.message,
        duplicate=event.duplicate,
        trace=job.trace if event.state.in_quarantine else "",
    )


def _event(body: _Body, now: int) -> JobEvent:
    state = body.state
    if isinstance(state, msgspec.UnsetType) or not body.job_id:
        raise Undecodable("an event needs jobId and state")
    if state.in_quarantine and isinstance(body.payload, msgspec.UnsetType):
        raise Undecodable("an event that sets a job aside needs its payload")
    _check_names(body, may_lack=not state.in_quarantine)
    at = not_ahead(body.at, now)
    job = _job(body, body.job_id, at)
    return JobEvent(
        job=job if job.submitted_at <= now else replace(job, submitted_at=not_ahead(job.submitted_at, now)),
        state=state,
        at=at,
        started_at=None if body.started_at is None else not_ahead(body.started_at, now),
        run=storable(body.run, _MAX_NAME_CHARS),
        actor=storable(body.actor, _MAX_NAME_CHARS),
        reason=body.reason,
        code=storable(body.code, _MAX_NAME_CHARS),
        message=storable(body.message, _MAX_TEXT_CHARS),
        duplicate=body.duplicate,
    )
