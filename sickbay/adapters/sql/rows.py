"""Converts rows to records: the columns to select for a JobRecord, and the values of a row for a JobEvent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

import msgspec
from sqlalchemy import Row, func, select

from sickbay.adapters.sql.fingerprint import fingerprint
from sickbay.adapters.sql.schema import job_duplicates, jobs
from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobEvent, JobRecord, JobState, Reason
from sickbay.domain.priority import Priority

AnyRow = Row[*tuple[Any, ...]]

_failures_decoder: Final = msgspec.json.Decoder(tuple[Failure, ...])
_encode: Final = msgspec.json.Encoder().encode

DUPLICATES: Final = (
    select(func.count()).select_from(job_duplicates).where(job_duplicates.c.job_id == jobs.c.job_id).scalar_subquery().label("duplicates")
)
"""The column with the number of a job's duplicates."""

LISTED: Final = (*(column for column in jobs.c if column.name not in {"payload", "message", "trace", "called_off"}), DUPLICATES)
"""The columns for a list of records: all but payloads, which may be a megabyte each, and internal ones."""

WHOLE: Final = (*LISTED, jobs.c.payload, jobs.c.trace)
"""The columns for one record with its payload and its trace."""

JOB_VALUES: Final = (*jobs.c.keys()[: jobs.c.keys().index("payload") + 1], "trace", "priority")
"""The columns of `jobs` that an event sets."""


def etag(job_id: str, generation: int, attempt: int, state: str, revision: int) -> str:
    """Short, opaque, different after every change and every edit."""
    text = f"{job_id}/{generation}/{attempt}/{state}/{revision}"
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def failures_of(errors: bytes | None) -> tuple[Failure, ...]:
    """Read the column `errors`."""
    return _failures_decoder.decode(errors) if errors else ()


def job_of(row: AnyRow) -> Job:
    """The job of a row of `jobs`."""
    return Job(
        job_id=row.job_id,
        job_type=row.job_type,
        payload_json=getattr(row, "payload", None) or b"",
        tenant=row.tenant,
        attempt=row.attempt,
        generation=row.generation,
        failures=failures_of(row.errors),
        submitted_at=row.submitted_at,
        trace=getattr(row, "trace", None) or "",
        priority=Priority(row.priority),
        run_at=row.run_at or 0,
        schedule_id=row.schedule_id or "",
        tick_at=row.tick_at or 0,
    )


def record_of(row: AnyRow) -> JobRecord:
    """A record from a row of LISTED or WHOLE."""
    state, job = JobState(row.state), job_of(row)
    return JobRecord(
        job=job if state.is_in_ledger_alone or not job.payload_json else replace(job, payload_json=b""),
        state=state,
        updated_at=row.updated_at,
        started_at=row.started_at,
        duplicates=row.duplicates,
        reason=Reason(row.reason) if row.reason else None,
        etag=etag(row.job_id, row.generation, row.attempt, row.state, row.revision),
        fingerprint=row.fingerprint or "",
        cancel_requested_at=row.cancel_requested_at or 0,
    )


def values_of(event: JobEvent) -> tuple[object, ...]:
    """The row of a job after an event, in the order of JOB_VALUES; called for every event, so the healthy case is fast."""
    job, state = event.job, event.state
    last = job.failures[-1] if job.failures else None
    code, message = (event.code, event.message) if event.code or last is None else (last.code, last.message)
    place = (job.job_id, job.job_type, job.tenant, state.value, job.generation, job.attempt, state.rank)
    run = (job.submitted_at, event.at, event.started_at, event.run, _encode(job.failures) if last else None, code)
    if not state.in_quarantine:
        payload = job.payload_json or None if not state.is_final else None
        trace = job.trace or None if state is JobState.SCHEDULED else None
        return (*place, *run, None, None, None, None, payload, trace, job.priority.value)
    reason = event.reason.value if event.reason else None
    aside = (event.at, reason, plain(message), fingerprint(message), job.payload_json, job.trace or None)
    return (*place, *run, *aside, job.priority.value)


def event_of(row: AnyRow) -> JobEvent:
    """The event that set a job aside, from its complete row."""
    reason = Reason(row.reason) if row.reason else None
    return JobEvent(
        job_of(row),
        JobState(row.state),
        row.set_aside_at,
        started_at=row.started_at,
        run=row.run,
        reason=reason,
        code=row.code,
        message=row.message or "",
    )


def change_values(event: JobEvent) -> tuple[object, ...]:
    """A row of `job_changes`, in the order of the table."""
    job, message = event.job, plain(event.message)
    return (job.job_id, job.generation, job.attempt, event.state.value, event.at, event.started_at, event.code, message, event.actor)


def plain(text: str) -> str:
    """Text that every database accepts: PostgreSQL stores no NUL, and neither encodes lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
