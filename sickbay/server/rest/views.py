"""Protobuf to the JSON of REST: camelCase, states without prefix, times as RFC 3339 in UTC with milliseconds.

Fields that are not set are left out, so a healthy circuit is just `{"jobType": ..., "state": "CLOSED"}`. Payloads go out byte for byte.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsResponse
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.jobs.v1.job_pb2 import AttemptError, Job, StateChange
from sickbay.jobs.v1.quarantine_service_pb2 import FailureGroup, PayloadRevision, QuarantinedJob, RequeuedJob

View = dict[str, Any]
"""What `encode` turns into a JSON object."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPENED: Final = frozenset({Breaker.STATE_OPEN, Breaker.STATE_HALF_OPEN, Breaker.STATE_FORCED_OPEN})


def encode(view: Any) -> bytes:
    """The view as compact JSON."""
    return msgspec.json.encode(view)


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as for example `2024-01-01T00:00:00.000Z`."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def millis(time: Timestamp) -> int:
    """A Timestamp as milliseconds since the epoch."""
    return time.seconds * 1000 + time.nanos // 1_000_000


def job_view(job: Job) -> View:
    """A job."""
    view = {
        "jobId": job.job_id,
        "jobType": job.job_type,
        "tenant": job.tenant,
        "state": Job.State.Name(job.state).removeprefix("STATE_"),
        "attempt": job.attempt,
        "generation": job.generation,
        "errors": [_error_view(error) for error in job.errors],
        "submittedAt": _time(job, "submit_time"),
        "updatedAt": _time(job, "update_time"),
        "startedAt": _time(job, "start_time"),
        "duplicates": job.duplicates,
        "history": [change_view(change) for change in job.history] or None,
    }
    return _told(view)


def accepted_view(job_type: str, job_id: str, *, duplicate: bool) -> View:
    """The documented answer to an accepted job."""
    view = {"status": "accepted", "message": "Job queued for processing", "jobType": job_type, "jobId": job_id}
    return view | {"duplicate": True} if duplicate else view


def reset_view(job_type: str) -> View:
    """The documented answer to a reset."""
    return {"message": f"Circuit breaker for '{job_type}' has been reset", "jobType": job_type}


def change_view(change: StateChange) -> View:
    """One line of a job's history."""
    view = {
        "time": _time(change, "time"),
        "state": Job.State.Name(change.state).removeprefix("STATE_"),
        "attempt": change.attempt,
        "generation": change.generation,
        "code": change.code or None,
        "message": change.message or None,
        "actor": change.actor or None,
        "traceback": change.traceback or None,
    }
    return _told(view)


def quarantined_view(quarantined: QuarantinedJob) -> View:
    """A job that was set aside; `payload` and `revisions` only where they were read (not in lists)."""
    view = {
        "payload": msgspec.Raw(quarantined.payload_json.encode()) if quarantined.payload_json else None,
        "reason": QuarantinedJob.Reason.Name(quarantined.reason).removeprefix("REASON_"),
        "etag": quarantined.etag,
        "quarantinedAt": _time(quarantined, "quarantine_time"),
        "fingerprint": quarantined.fingerprint or None,
        "revisions": [_revision_view(revision) for revision in quarantined.revisions] if quarantined.payload_json else None,
    }
    return job_view(quarantined.job) | _told(view)


def requeued_view(one: RequeuedJob) -> View:
    """A job that may have been lost, and what became of it."""
    view = {"outcome": RequeuedJob.Outcome.Name(one.outcome).removeprefix("OUTCOME_"), "message": one.message or None}
    return job_view(one.job) | _told(view)


def failure_group_view(group: FailureGroup) -> View:
    """Jobs that were set aside for what looks like one cause; `errorCode` is empty if they never ran."""
    view = {
        "jobType": group.job_type,
        "errorCode": group.error_code,
        "fingerprint": group.fingerprint,
        "sampleMessage": group.sample_message,
        "sampleJobId": group.sample_job_id,
        "count": group.count,
        "firstAt": _time(group, "first_time"),
        "lastAt": _time(group, "last_time"),
    }
    return _told(view)


def breaker_view(breaker: Breaker) -> View:
    """A circuit; its times are integers, ms since the epoch, as documented."""
    opened = breaker.state in _OPENED
    view = {
        "jobType": breaker.job_type,
        "tenant": breaker.tenant if breaker.tenant != DEFAULT_TENANT else None,
        "state": Breaker.State.Name(breaker.state).removeprefix("STATE_"),
        "openedAt": _ms(breaker, "open_time") if opened else None,
        "cooldownElapsed": breaker.cooldown_elapsed if opened else None,
        "cooldownMs": breaker.cooldown.ToMilliseconds() if opened and breaker.HasField("cooldown") else None,
        "probeAt": _ms(breaker, "probe_time"),
        "probeJobId": breaker.probe_job_id or None,
        "trips": breaker.trips or None,
        "reason": _reason_view(breaker) if breaker.reason_code else None,
        "failuresInRow": _row_view(breaker) if breaker.failures_in_row else None,
        "totalFailures": breaker.total_failures or None,
        "recovering": breaker.recovering or None,
        "forced": _forced_view(breaker) or None,
        "wouldHaveTripped": breaker.would_have_tripped or None,
        "degraded": breaker.degraded or None,
    }
    return _told(view)


def breakers_view(breakers: list[View], next_page_token: str = "") -> View:
    """A page of circuits."""
    return _told({"count": len(breakers), "breakers": breakers, "nextPageToken": next_page_token or None})


def metrics_view(metrics: GetMetricsResponse) -> View:
    """The system in numbers."""
    breakers = metrics.circuit_breakers
    return {
        "circuitBreakers": {"total": breakers.total, "open": breakers.open, "closed": breakers.closed},
        "failures": {"byJobType": dict(sorted(metrics.failures_by_job_type.items()))},
        "jobs": {"byState": dict(sorted(metrics.jobs_by_state.items()))},
        "queues": dict(sorted(metrics.queue_depths.items())),
        "duplicates": metrics.duplicates,
    }


def _error_view(error: AttemptError) -> View:
    view = {
        "time": _time(error, "time"),
        "attempt": error.attempt,
        "generation": error.generation,
        "code": error.code,
        "message": error.message,
        "traceback": error.traceback or None,
    }
    return _told(view)


def _revision_view(revision: PayloadRevision) -> View:
    view = {
        "time": _time(revision, "time"),
        "actor": revision.actor or None,
        "before": msgspec.Raw(revision.before_json.encode()) if revision.before_json else None,
        "after": msgspec.Raw(revision.after_json.encode()) if revision.after_json else None,
    }
    return _told(view)


def _reason_view(breaker: Breaker) -> View:
    return {"code": breaker.reason_code, "count": breaker.reason_count, "message": breaker.reason_message}


def _row_view(breaker: Breaker) -> View:
    return {"code": breaker.failures_in_row_code, "count": breaker.failures_in_row}


def _forced_view(breaker: Breaker) -> View:
    return _told({"until": _ms(breaker, "forced_until_time"), "by": breaker.forced_by or None, "why": breaker.forced_why or None})


def _time(message: Any, field: str) -> str | None:
    return rfc3339(millis(getattr(message, field))) if message.HasField(field) else None


def _ms(message: Any, field: str) -> int | None:
    return millis(getattr(message, field)) if message.HasField(field) else None


def _told(view: View) -> View:
    return {name: value for name, value in view.items() if value is not None}
