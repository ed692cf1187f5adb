"""Domain to protobuf: jobs, breakers and quarantined jobs (for the other direction see `requests.py`).

Pure. A time of 0 or None is left unset. Values that protobuf cannot represent (a year beyond 9999, an unpaired surrogate) are replaced and
never raise an error: a response about an odd job is better than none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.breakers.v1 import breaker_pb2, breaker_service_pb2
from sickbay.domain.breaker import BreakerState, Snapshot
from sickbay.domain.failure import Failure
from sickbay.domain.job import JobRecord, JobState, Reason, StateChange
from sickbay.domain.priority import Priority
from sickbay.domain.progress import Progress
from sickbay.domain.queries import FailureGroup, PayloadRevision, QuarantinedJob
from sickbay.domain.result import Result
from sickbay.jobs.v1 import job_pb2, quarantine_service_pb2

_MAX_MS: Final = 253_402_300_799_999
"""The end of the year 9999, the maximum of Timestamp."""
_MAX_UINT32: Final = 2**32 - 1
_NO_RESULT: Final = Result()

_STATES: Final = {state: job_pb2.Job.State.Value(f"STATE_{state.value}") for state in JobState}
_PRIORITIES: Final = {priority: job_pb2.Priority.Value(f"PRIORITY_{priority.value}") for priority in Priority}
_REASONS: Final = {reason: quarantine_service_pb2.QuarantinedJob.Reason.Value(f"REASON_{reason.value}") for reason in Reason}
_BREAKER_STATES: Final = {state: breaker_pb2.Breaker.State.Value(f"STATE_{state.value}") for state in BreakerState}


def timestamp(ms: int | None) -> Timestamp | None:
    """Milliseconds since the epoch as a Timestamp; None for None and for 0 (not known)."""
    if not ms:
        return None
    seconds, rest = divmod(min(max(ms, 0), _MAX_MS), 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def duration(ms: int) -> Duration | None:
    """Milliseconds as a Duration; None for 0."""
    if not ms:
        return None
    seconds, rest = divmod(ms, 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)


def job(record: JobRecord, history: Sequence[StateChange] = (), *, hides_result: bool = False) -> job_pb2.Job:
    """The job as recorded in the ledger; tracebacks are included if `history` is. `hides_result`: only say that there is a result."""
    known, result = record.job, record.result or _NO_RESULT
    return job_pb2.Job(
        job_id=text(known.job_id),
        job_type=text(known.job_type),
        tenant=text(known.tenant),
        state=_STATES[record.state],
        attempt=uint32(known.attempt),
        generation=uint32(known.generation),
        errors=[failure(one, whole=bool(history)) for one in known.failures],
        submit_time=timestamp(known.submitted_at),
        update_time=timestamp(record.updated_at),
        start_time=timestamp(record.started_at),
        duplicates=uint32(record.duplicates),
        history=[change(one, known.failures) for one in history],
        next_attempt_time=timestamp(record.next_attempt_at),
        priority=_PRIORITIES[known.priority],
        result_json="" if hides_result else json_text(result.json),
        result_note=text(result.note),
        progress=progress(record.progress) if record.progress is not None else None,
        cancel_request_time=timestamp(record.cancel_requested_at),
        result_hidden=hides_result and bool(result.json),
        run_time=timestamp(known.run_at),
        schedule_id=text(known.schedule_id),
        tick_time=timestamp(known.tick_at),
    )


def progress(known: Progress) -> job_pb2.Progress:
    """How far a run is."""
    return job_pb2.Progress(fraction=known.fraction, message=text(known.message), update_time=timestamp(known.at))


def failure(failed: Failure, *, whole: bool = True) -> job_pb2.AttemptError:
    """One failed run; lists omit its traceback."""
    return job_pb2.AttemptError(
        time=timestamp(failed.at),
        attempt=uint32(failed.attempt),
        generation=uint32(failed.generation),
        code=text(failed.code),
        message=text(failed.message),
        traceback=text(failed.traceback) if whole else "",
    )


def change(step: StateChange, failures: Sequence[Failure] = ()) -> job_pb2.StateChange:
    """One line of a history; its traceback comes from the job's failures."""
    return job_pb2.StateChange(
        time=timestamp(step.at),
        state=_STATES[step.state],
        attempt=uint32(step.attempt),
        generation=uint32(step.generation),
        code=text(step.code),
        message=text(step.message),
        actor=text(step.actor),
        traceback=text(_traceback(step, failures)) if step.code else "",
    )


def _traceback(step: StateChange, failures: Sequence[Failure]) -> str:
    attempt = step.attempt - (step.state is JobState.RETRYING)  # it has the number of the next attempt already
    run = (step.generation, attempt, step.code)
    return next((one.traceback for one in reversed(failures) if (one.generation, one.attempt, one.code) == run), "")


def quarantined(record: JobRecord) -> quarantine_service_pb2.QuarantinedJob:
    """A job in quarantine as in lists: without payload, revisions and history."""
    return _quarantined(record, job(record))


def quarantined_details(found: QuarantinedJob, *, hides_payload: bool = False) -> quarantine_service_pb2.QuarantinedJob:
    """A job in quarantine with payload, revisions and history; `hides_payload`: without payloads, and it says so."""
    message = _quarantined(found.record, job(found.record, found.history))
    message.payload_hidden = hides_payload
    message.payload_json = "" if hides_payload else json_text(found.record.job.payload_json)
    message.revisions.extend(revision(replace(one, before=b"", after=b"") if hides_payload else one) for one in found.revisions)
    return message


def _quarantined(record: JobRecord, known: job_pb2.Job) -> quarantine_service_pb2.QuarantinedJob:
    return quarantine_service_pb2.QuarantinedJob(
        job=known,
        reason=_REASONS[record.reason] if record.reason else quarantine_service_pb2.QuarantinedJob.REASON_UNSPECIFIED,
        quarantine_time=timestamp(record.updated_at),
        etag=record.etag,
        fingerprint=record.fingerprint,
    )


def revision(edit: PayloadRevision) -> quarantine_service_pb2.PayloadRevision:
    """One edit of a payload."""
    return quarantine_service_pb2.PayloadRevision(
        time=timestamp(edit.at), actor=text(edit.actor), before_json=json_text(edit.before), after_json=json_text(edit.after)
    )


def failure_group(group: FailureGroup) -> quarantine_service_pb2.FailureGroup:
    """Jobs in quarantine that probably have the same cause."""
    return quarantine_service_pb2.FailureGroup(
        job_type=text(group.job_type),
        error_code=text(group.error_code),
        fingerprint=group.fingerprint,
        sample_message=text(group.sample_message),
        sample_job_id=text(group.sample_job_id),
        count=group.count,
        first_time=timestamp(group.first_at),
        last_time=timestamp(group.last_at),
    )


def job_state(state: JobState) -> job_pb2.Job.State.ValueType:
    """The state of a job."""
    return _STATES[state]


def priority(known: Priority) -> job_pb2.Priority.ValueType:
    """A priority."""
    return _PRIORITIES[known]


def breaker_state(state: BreakerState) -> breaker_pb2.Breaker.State.ValueType:
    """The state of a breaker."""
    return _BREAKER_STATES[state]


def breaker(breaker: Snapshot, asked: str = "", job_types: Sequence[str] = (), waiting_for: str = "") -> breaker_pb2.Breaker:
    """A breaker at one moment; `asked` is the job type by which it was asked for, `job_types` are those that share it.

    Pages have a thousand breakers, and most of their fields are empty: those are not even passed.
    """
    key = breaker.key
    fields: dict[str, Any] = {"job_type": asked or key.job_type, "tenant": key.tenant, "state": _BREAKER_STATES[breaker.state]}
    if dependency := key.dependency:
        fields |= {"dependency": dependency, "job_types": job_types}
    if waiting_for:
        fields["waiting_for"] = waiting_for
    for (name, convert), value in zip(_BREAKER_FIELDS, _breaker_values(breaker), strict=True):
        if value:
            fields[name] = convert(value) if convert is not None else value
    return breaker_pb2.Breaker(**fields)


def metrics(
    breakers: Sequence[Snapshot],
    *,
    jobs: Mapping[JobState, int],
    depths: Mapping[str, int],
    consumers: Mapping[str, int],
    duplicates: int,
    now: int,
) -> breaker_service_pb2.GetMetricsResponse:
    """The system in numbers; `failures_by_job_type` omits types without failures, as documented."""
    refusing = sum(breaker.state.refuses for breaker in breakers)
    failures: Counter[str] = Counter()
    for breaker in breakers:
        failures[breaker.key.job_type] += breaker.total_failures
    return breaker_service_pb2.GetMetricsResponse(
        circuit_breakers=breaker_service_pb2.CircuitBreakerCounts(total=len(breakers), open=refusing, closed=len(breakers) - refusing),
        failures_by_job_type=+failures,
        jobs_by_state={state.value: count for state, count in jobs.items()},
        queue_depths={str(queue): depth for queue, depth in depths.items()},
        queue_consumers={str(queue): number for queue, number in consumers.items()},
        duplicates=duplicates,
        time=timestamp(now),
    )


def uint32(number: int) -> int:
    """The number within the range of uint32."""
    return min(max(number, 0), _MAX_UINT32)


def text(words: str) -> str:
    """The text without what protobuf cannot represent."""
    return words if words.isascii() else words.encode("utf-8", "replace").decode()


def json_text(data: bytes) -> str:
    """The JSON text, whatever its bytes are."""
    return data.decode("utf-8", "replace")


_SPARSE: Final[Mapping[str, tuple[str, Callable[[Any], object] | None]]] = {
    "opened_at": ("open_time", timestamp),
    "probe_at": ("probe_time", timestamp),
    "cooldown_elapsed": ("cooldown_elapsed", None),
    "cooldown_ms": ("cooldown", duration),
    "trips": ("trips", uint32),
    "reason_code": ("reason_code", None),
    "reason_count": ("reason_count", uint32),
    "reason_message": ("reason_message", text),
    "failures_in_row": ("failures_in_row", uint32),
    "failures_in_row_code": ("failures_in_row_code", None),
    "total_failures": ("total_failures", None),
    "recent_runs": ("recent_runs", None),
    "recent_failure_rate": ("recent_failure_rate", None),
    "recovering": ("recovering", None),
    "rate": ("admitted_per_second", None),
    "probe_job_id": ("probe_job_id", text),
    "hanging_probes": ("hanging_probes", None),
    "forced_until": ("forced_until_time", timestamp),
    "forced_by": ("forced_by", text),
    "forced_why": ("forced_why", text),
    "would_have_tripped": ("would_have_tripped", uint32),
    "epoch": ("epoch", None),
    "rev": ("rev", None),
    "updated_at": ("update_time", timestamp),
    "degraded": ("degraded", None),
    "redacted": ("redacted", None),
}
"""Of each field of a Snapshot the field of a Breaker, and what converts it; 0, "", False and None are left unset."""
_BREAKER_FIELDS: Final = tuple(_SPARSE.values())
_breaker_values: Final = attrgetter(*_SPARSE)
