"""The jobs of an incident, as the ledger knows them: how many were set aside meanwhile, and whose failures opened the breaker.

Counted from the changes of jobs, so nothing is counted twice, whoever counts and however often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, distinct, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.schema import job_changes, jobs
from sickbay.domain.breaker import BreakerKey, BreakerRule
from sickbay.domain.breaker_sharing import is_shared
from sickbay.domain.incident import MAX_FAILED_JOBS, FailedJob, Incident, JobCounts
from sickbay.domain.job import JobState
from sickbay.domain.run_rate import OVER_RATE

BEFORE_MS: Final = 600_000
"""How long before the opening its failures may have happened: BREAKER_FAILURE_WINDOW, as it is by default."""
AFTER_MS: Final = 1_000
"""A run reports to its breaker first, so the event of the last failure is a little later than the opening."""

_change: Final = job_changes.c
_job: Final = jobs.c
_FAILED: Final = _change.state.in_([state.value for state in (JobState.RETRYING, JobState.PARKED, JobState.QUARANTINED)])
_NOT_RELEASED: Final = [state.value for state in (JobState.PARKED, JobState.QUARANTINED, JobState.DISCARDED, JobState.CANCELLED)]


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of an incident, and how many of its jobs are still parked."""

    counts: JobCounts
    waiting: int


async def tally(connection: AsyncConnection, incident: Incident, scope: BreakerRule) -> Tally:
    """Count the jobs that were set aside between opening and closing. Jobs past their retention stay counted."""
    is_parked = and_(_change.state == JobState.PARKED.value, _change.code != OVER_RATE)  # those wait for the rate of their type
    is_quarantined = _change.state == JobState.QUARANTINED.value
    until = [] if incident.closed_at is None else [_change.at <= incident.closed_at]
    row = (
        await connection.execute(
            select(
                _count(is_parked).label("parked"),
                _count(is_parked & _job.state.in_(_NOT_RELEASED)).label("held"),
                _count(is_parked & (_job.state == JobState.PARKED.value)).label("waiting"),
                _count(is_quarantined).label("quarantined"),
            ).where(*_of(incident.key, scope), _change.at >= incident.opened_at, *until, is_parked | is_quarantined)
        )
    ).one()
    parked = max(row.parked, incident.jobs.parked)
    quarantined = max(row.quarantined, incident.jobs.quarantined)
    return Tally(JobCounts(parked, max(0, parked - row.held), quarantined), row.waiting)


async def name_failed_jobs(
    connection: AsyncConnection, incident: Incident, scope: BreakerRule, traces: Mapping[str, str]
) -> tuple[FailedJob, ...]:
    """The jobs that had the failures of its cause, in the order of their failures. `traces` has trace ids by job id."""
    wanted = min(incident.cause.count, MAX_FAILED_JOBS)
    known = {job.job_id: job.trace_id for job in incident.cause.jobs}
    if len(known) < wanted:
        at = (_change.at >= incident.opened_at - BEFORE_MS, _change.at <= incident.opened_at + AFTER_MS)
        query = select(_change.job_id, func.max(_change.at).label("last"), func.max(_job.trace).label("trace"))
        query = query.where(*_of(incident.key, scope), _FAILED, *at, _change.code == incident.cause.code).group_by(_change.job_id)
        rows = (await connection.execute(query.order_by(func.max(_change.at).desc(), _change.job_id.desc()).limit(wanted))).all()
        known = {row.job_id: known.get(row.job_id) or trace_id(row.trace or "") for row in reversed(rows)}
    return tuple(FailedJob(job_id, found or traces.get(job_id, "")) for job_id, found in known.items())


def trace_id(trace: str) -> str:
    """The trace id of a job's trace context, empty without one."""
    parts = trace.split("-")
    return parts[1] if len(parts) > 1 else ""


def _of(key: BreakerKey, scope: BreakerRule) -> list[ColumnElement[bool]]:
    """The changes of jobs that asked this breaker."""
    # Found by the time of the change. The index of jobs by type would find all jobs of this type, healthy ones, too: hence `coalesce`.
    job_types = scope.job_types(key) or [key.job_type]
    wanted: list[ColumnElement[bool]] = [_change.job_id == _job.job_id, func.coalesce(_job.job_type, "").in_(job_types)]
    return wanted if is_shared(scope, key.job_type) else [*wanted, _job.tenant == key.tenant]


def _count(which: ColumnElement[Any]) -> ColumnElement[int]:
    return func.count(distinct(case((which, _change.job_id))))
