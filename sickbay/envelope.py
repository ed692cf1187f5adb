"""The messages on the queues: JSON that an operator can read in the broker's page (`design.md`, section 4).

A job is `{"jobType": ..., "payload": {...}}` plus our own fields, all optional, so that a foreign program can publish one.
An event is the same with `state`, `at`, ...; several events travel as `{"events": [...]}`. The payload is never parsed here:
it stays the bytes that came in.

A job's trace context is in the headers of the message that carries it. In an event that sets a job aside it is in the body: there it is a
part of the job, kept in the ledger and in `jobs.quarantine` until the job is released, and no header survives the sweep.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final

import msgspec

from sickbay.job import DEFAULT_TENANT, MAX_FAILURES, NAME_PATTERN, Event, Failure, Job, Reason, State, is_name
from sickbay.ports import Message
from sickbay.trace import checked, trace_headers, trace_of

MAX_ID_CHARS: Final = 64
UNDECODABLE_TYPE: Final = "undecodable"
"""The job type under which a message is kept that could not be read."""
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Undecodable(ValueError):
    """The message is no job; the text says why and is kept with it."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Millis = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
"""Up to the end of the year 9999: what a Timestamp can say."""


class _Failure(msgspec.Struct, frozen=True):
    time: _Millis
    attempt: _Count
    code: str
    message: str = ""
    generation: _Count = 0


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
    state: State | msgspec.UnsetType = msgspec.UNSET
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


class _Anything(msgspec.Struct, frozen=True):
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder: Final = msgspec.json.Encoder()
_job_decoder: Final = msgspec.json.Decoder(_Body)
_batch_decoder: Final = msgspec.json.Decoder(_Batch)
_shape_decoder: Final = msgspec.json.Decoder(_Anything)


def job_message(key: str, job: Job, delay_ms: int = 0) -> Message:
    """The message that carries a job to a worker."""
    return Message(key, encode_job(job), delay_ms, headers=trace_headers(job.trace) if job.trace else _NO_HEADERS)


def encode_job(job: Job) -> bytes:
    """The body of such a message."""
    return _encoder.encode(_body(job))


def decode_job(body: bytes, message_id: str, now: int, headers: Mapping[str, str] = _NO_HEADERS) -> Job:
    """The job in a message; a foreign one without `jobId` takes the message's id, one without `submittedAt` takes `now` (ms).

    Raises Undecodable with a sentence that says what is wrong.
    """
    try:
        found = _job_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"the message is not a job: {error}") from error
    _check(found)
    return _job(found, message_id, now, trace_of(headers) if headers else "")


def encode_event(event: Event) -> bytes:
    """One event in a message of its own; a set-aside job is complete in it."""
    return _encoder.encode(_event_body(event))


def encode_events(events: Iterable[Event]) -> bytes:
    """Several events in one message."""
    return _encoder.encode(_Batch(tuple(map(_event_body, events))))


def decode_events(body: bytes) -> Sequence[Event]:
    """The events in a message, one or several; raises Undecodable."""
    try:
        several = _shape_decoder.decode(body).events is not msgspec.UNSET
        bodies = _batch_decoder.decode(body).events if several else (_job_decoder.decode(body),)
        return [_event(found) for found in bodies]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"the message is no event: {error}") from error


def undecodable_job(body: bytes, message_id: str, why: str, now: int) -> Job:
    """A job that keeps the bytes of a message nobody could read, so that a person can."""
    payload = {"contentBase64": base64.b64encode(body).decode("ascii"), "problem": why}
    failure = Failure(now, 0, 0, "UNDECODABLE", why)
    return Job(message_id, UNDECODABLE_TYPE, msgspec.json.encode(payload), failures=(failure,), submitted_at=now)


def _check(body: _Body) -> None:
    if not is_name(body.job_type):
        raise Undecodable(f"jobType must match {NAME_PATTERN}")
    if not is_name(body.tenant):
        raise Undecodable(f"tenant must match {NAME_PATTERN}")
    if isinstance(body.payload, msgspec.UnsetType) or not bytes(body.payload).lstrip().startswith(b"{"):
        raise Undecodable("payload must be a JSON object")
    if len(body.job_id) > MAX_ID_CHARS:
        raise Undecodable(f"jobId has at most {MAX_ID_CHARS} characters")


def _body(job: Job) -> _Body:
    return _Body(
        job_type=job.job_type,
        payload=msgspec.Raw(job.payload_json),
        job_id=job.job_id,
        tenant=job.tenant,
        attempt=job.attempt,
        generation=job.generation,
        errors=tuple(_Failure(f.at, f.attempt, f.code, f.message, f.generation) for f in job.failures),
        submitted_at=job.submitted_at,
        maybe_duplicate=job.maybe_duplicate,
    )


def _job(body: _Body, message_id: str, now: int, trace: str = "") -> Job:
    return Job(
        job_id=body.job_id or message_id,
        job_type=body.job_type,
        payload_json=b"" if isinstance(body.payload, msgspec.UnsetType) else bytes(body.payload),
        tenant=body.tenant,
        attempt=body.attempt,
        generation=body.generation,
        failures=tuple(Failure(f.time, f.generation, f.attempt, f.code, f.message) for f in body.errors[-MAX_FAILURES:]),
        submitted_at=body.submitted_at or now,
        maybe_duplicate=body.maybe_duplicate,
        trace=trace or (checked(body.trace) if body.trace else ""),
    )


def _event_body(event: Event) -> _Body:
    job = event.job
    return _Body(
        job_type=job.job_type,
        payload=msgspec.Raw(job.payload_json) if event.state.is_set_aside else msgspec.UNSET,
        job_id=job.job_id,
        tenant=job.tenant,
        attempt=job.attempt,
        generation=job.generation,
        errors=tuple(_Failure(f.at, f.attempt, f.code, f.message, f.generation) for f in job.failures),
        submitted_at=job.submitted_at,
        state=event.state,
        at=event.at,
        started_at=event.started_at,
        run=event.run,
        actor=event.actor,
        reason=event.reason,
        code=event.code,
        message=event.message,
        duplicate=event.duplicate,
        trace=job.trace if event.state.is_set_aside else "",
    )


def _event(body: _Body) -> Event:
    if isinstance(body.state, msgspec.UnsetType) or not body.job_id:
        raise Undecodable("an event needs jobId and state")
    return Event(
        job=_job(body, body.job_id, body.at),
        state=body.state,
        at=body.at,
        started_at=body.started_at,
        run=body.run,
        actor=body.actor,
        reason=body.reason,
        code=body.code,
        message=body.message,
        duplicate=body.duplicate,
    )
