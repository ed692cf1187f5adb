"""Reads single jobs with everything that is stored about them beside their rows; lists of jobs do without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Select, and_, select

from sickbay.adapters.sql.rows import WHOLE, AnyRow, record_of
from sickbay.adapters.sql.schema import job_progress, job_results, jobs
from sickbay.domain.job import JobRecord, JobState
from sickbay.domain.progress import Progress
from sickbay.domain.result import Result

_OF_RUN: Final = and_(
    job_results.c.job_id == jobs.c.job_id,
    job_results.c.generation == jobs.c.generation,
    job_results.c.run == jobs.c.run,
    jobs.c.state == JobState.SUCCEEDED.value,
)
"""The result of the run with which the job succeeded."""

_OF_ATTEMPT: Final = and_(
    job_progress.c.job_id == jobs.c.job_id,
    job_progress.c.generation == jobs.c.generation,
    job_progress.c.attempt == jobs.c.attempt,
    jobs.c.state == JobState.RUNNING.value,
)
"""The progress of the run that goes on."""

DETAILED: Final[Select[Any]] = select(
    *WHOLE,
    job_results.c.result,
    job_results.c.note.label("result_note"),
    job_progress.c.fraction,
    job_progress.c.message.label("progress_message"),
    job_progress.c.at.label("progress_at"),
).select_from(jobs.outerjoin(job_results, _OF_RUN).outerjoin(job_progress, _OF_ATTEMPT))
"""Selects rows for `detailed_record_of`."""


def detailed_record_of(row: AnyRow) -> JobRecord:
    """A record from a row of DETAILED."""
    record = record_of(row)
    if row.result_note is not None:
        return replace(record, result=Result(row.result or b"", row.result_note))
    if row.fraction is not None:
        return replace(record, progress=Progress(row.fraction, row.progress_message, row.progress_at))
    return record
