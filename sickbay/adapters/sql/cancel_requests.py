"""Remembers that somebody asked to cancel a job after a run of it had begun, and ends the job when that run does not succeed.

The request is a time in the job's row, which later events leave alone: so a job whose worker dies is not run again (`duplicate_guard.py`),
and whatever else a run leads to than a success (a retry, parking, quarantine) is a cancellation instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.merge import began_at_attempt
from sickbay.adapters.sql.schema import jobs
from sickbay.domain.job import JobEvent, JobState

GOES_ON: Final = frozenset({JobState.RETRYING, JobState.PARKED, JobState.QUARANTINED})
"""After these the job would run again."""
_UNFINISHED: Final = jobs.c.rank < JobState.PARKED.rank
_MARK: Final = (
    update(jobs)
    .where(jobs.c.job_id == bindparam("job"), _UNFINISHED, jobs.c.cancel_requested_at.is_(None))
    .values(cancel_requested_at=bindparam("asked_at"))
    .returning(jobs.c.job_id)
)
_MARKED: Final = select(jobs.c.job_id).where(jobs.c.job_id.in_(bindparam("jobs", expanding=True)), jobs.c.cancel_requested_at.is_not(None))
UNFINISHED: Final = select(jobs.c.job_id).where(jobs.c.cancel_requested_at.is_not(None), _UNFINISHED)
"""The jobs that are to end."""


async def mark(connection: AsyncConnection, requests: Sequence[JobEvent]) -> set[str]:
    """Store the requests about jobs that are neither set aside nor ended; returns the jobs of which one is new."""
    found: set[str] = set()
    for job_id, at in sorted({request.job.job_id: request.at for request in requests}.items()):
        found.update((await connection.execute(_MARK, {"job": job_id, "asked_at": at})).scalars())
    return found


async def without_further_runs(connection: AsyncConnection, events: Sequence[JobEvent]) -> Sequence[JobEvent]:
    """The events, with CANCELLED in place of all after which a job would run again that is to end; one statement if there are any."""
    ids = [event.job.job_id for event in events if event.state in GOES_ON and not event.duplicate]
    if not ids:
        return events
    marked = set((await connection.execute(_MARKED, {"jobs": ids})).scalars())
    return [_cancelled(event) if _goes_on(event, marked) else event for event in events] if marked else events


def _goes_on(event: JobEvent, marked: Collection[str]) -> bool:
    return event.state in GOES_ON and not event.duplicate and event.job.job_id in marked


def _cancelled(event: JobEvent) -> JobEvent:
    attempt = began_at_attempt(event.state, event.job.attempt)
    ended = f"its run ended with {event.code}{f': {event.message}' if event.message else ''}" if event.started_at is not None else ""
    job = replace(event.job, attempt=attempt, payload_json=b"")
    return replace(event, job=job, state=JobState.CANCELLED, reason=None, code=JobState.CANCELLED.value, message=ended)
