"""The messages of WorkerService.Work: what a program says, validated, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sickbay.contract.requests import job_type, line
from sickbay.contract.responses import duration, job, text
from sickbay.contract.times import span_ms
from sickbay.domain.errors import MAX_RETRY_AFTER, InvalidArgument
from sickbay.domain.failure import MAX_TRACEBACK_BYTES, last_bytes
from sickbay.domain.job import CODE_PATTERN, Job, JobRecord, JobState, is_code
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind, kind_of
from sickbay.domain.program import MAX_NAME_CHARS, MAX_SLOTS, MAX_TYPES, Offer, Registration
from sickbay.domain.raised import clean
from sickbay.domain.result import MAX_RESULT_BYTES, Result, too_large
from sickbay.handlers.checks import MAX_TIMEOUT_S
from sickbay.jobs.v1 import work_pb2 as pb

__all__ = ["INVALID_ANSWER", "cancel", "failed", "registered", "registration", "run", "succeeded"]

INVALID_ANSWER: Final = "INVALID_ANSWER"
"""The code of a run whose program described its failure in a way that is not valid."""
_NOT_JSON: Final = Result(note="the result is not JSON; send JSON text in result_json")
_KINDS: Final = {
    pb.WorkRequest.Failed.KIND_SYSTEMIC: OutcomeKind.SYSTEMIC,
    pb.WorkRequest.Failed.KIND_TRANSIENT: OutcomeKind.TRANSIENT,
    pb.WorkRequest.Failed.KIND_DATA: OutcomeKind.DATA,
    pb.WorkRequest.Failed.KIND_UNKNOWN: OutcomeKind.UNKNOWN,
}
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)


def registration(message: pb.WorkRequest.Register) -> Registration:
    """What the program registers. InvalidArgument says what to correct."""
    if not message.name:
        raise InvalidArgument("the name of the program is missing; it is shown in the log and in metrics, for example thumbnails")
    if not 1 <= message.slots <= MAX_SLOTS:
        raise InvalidArgument(
            f"slots must be 1 to {MAX_SLOTS:,}, not {message.slots:,}: so many jobs the program runs at a time; to get no more, send drain"
        )
    if not 1 <= len(message.types) <= MAX_TYPES:
        raise InvalidArgument(f"a program registers 1 to {MAX_TYPES} job types, not {len(message.types):,}")
    offers = tuple(_offer(one, message.slots) for one in message.types)
    names = {offer.job_type for offer in offers}
    if len(names) < len(offers):
        twice = next(name for name in sorted(names) if sum(offer.job_type == name for offer in offers) > 1)
        raise InvalidArgument(f"the job type {twice!r} is registered twice; name each type once")
    return Registration(
        name=line(message.name, "name of the program", MAX_NAME_CHARS),
        version=line(message.version, "version of the program", MAX_NAME_CHARS),
        language=line(message.language, "language of the program", MAX_NAME_CHARS),
        slots=message.slots,
        offers=offers,
    )


def _offer(message: pb.WorkRequest.HandledType, slots: int) -> Offer:
    name = job_type(message.job_type)
    if message.concurrency < 0:
        raise InvalidArgument(f"the concurrency of {name!r} must be at least 1, or 0 for as many as there are slots")
    timeout_ms = span_ms(message.timeout, f"timeout of {name!r}", 1, MAX_TIMEOUT_S * 1000) if message.HasField("timeout") else 0
    return Offer(name, timeout_ms / 1000 or None, min(message.concurrency or slots, slots))


def succeeded(message: pb.WorkRequest.Succeeded) -> Outcome:
    """The outcome of a run that has succeeded, whatever its result is."""
    if not message.result_json:
        return SUCCESS
    kept = _result(message.result_json.encode())
    return SUCCESS if kept is None else Outcome(OutcomeKind.SUCCESS, result=kept)


def _result(data: bytes) -> Result | None:
    if len(data) > MAX_RESULT_BYTES:
        return too_large(len(data))
    try:
        _RAW.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return _NOT_JSON
    return None if data.strip() == b"null" else Result(data)


def failed(message: pb.WorkRequest.Failed) -> Outcome:
    """The outcome of a run that has failed; if the message is invalid, the code is INVALID_ANSWER."""
    try:
        return _failed(message)
    except InvalidArgument as error:
        said = f"; the program said {message.code[:48]!r}: {message.message}"
        return Outcome(OutcomeKind.UNKNOWN, INVALID_ANSWER, clean(f"{error}{said}"))


def _failed(message: pb.WorkRequest.Failed) -> Outcome:
    code = message.code
    if not is_code(code):
        raise InvalidArgument(f"the error code must match {CODE_PATTERN}, not {code[:80]!r}")
    if message.kind and message.kind not in _KINDS:
        raise InvalidArgument(f"the kind {message.kind} is unknown; use one of the contract's")
    asked_ms = span_ms(message.retry_after, "retry_after", 0, MAX_RETRY_AFTER * 1000) if message.HasField("retry_after") else None
    return Outcome(
        _KINDS.get(message.kind) or kind_of(code),
        code,
        clean(message.message),
        asked_ms,
        traceback=last_bytes(message.traceback.strip(), MAX_TRACEBACK_BYTES),
    )


def registered(version: str, heartbeat_s: float) -> pb.WorkResponse:
    """The registration is in force."""
    return pb.WorkResponse(registered=pb.WorkResponse.Registered(version=version, heartbeat_interval=duration(round(1000 * heartbeat_s))))


def run(run_id: str, known: Job, *, timeout_s: float, now: int, trace_context: Mapping[str, str]) -> pb.WorkResponse:
    """A job to run, `now` in ms."""
    record = JobRecord(known, JobState.RUNNING, 0, started_at=now)
    return pb.WorkResponse(
        run=pb.WorkResponse.Run(
            run_id=run_id,
            job=job(record),
            payload_json=known.payload_json.decode("utf-8", "replace"),
            timeout=duration(max(1, round(1000 * timeout_s))),
            idempotency_key=text(known.idempotency_key),
            trace_context=trace_context,
        )
    )


def cancel(run_id: str, reason: pb.WorkResponse.Cancel.Reason.ValueType) -> pb.WorkResponse:
    """Stop a run."""
    return pb.WorkResponse(cancel=pb.WorkResponse.Cancel(run_id=run_id, reason=reason))
