"""Reads single jobs with everything that is stored about them beside their rows; lists of jobs do without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Select, and_, select

from sickbay.adapters.sql.rows import WHOLE, AnyRow, record_of
from sickbay.adapters.sql.schema import job_results, jobs
from sickbay.domain.job import JobRecord, JobState
from sickbay.domain.result import Result

_OF_RUN: Final = and_(
    job_results.c.job_id == jobs.c.job_id,
    job_results.c.generation == jobs.c.generation,
    job_results.c.run == jobs.c.run,
    jobs.c.state == JobState.SUCCEEDED.value,
)
"""The result of the run with which the job succeeded."""

DETAILED: Final[Select[Any]] = select(*WHOLE, job_results.c.result, job_results.c.note.label("result_note")).select_from(
    jobs.outerjoin(job_results, _OF_RUN)
)
"""Selects rows for `detailed_record_of`."""


def detailed_record_of(row: AnyRow) -> JobRecord:
    """A record from a row of DETAILED."""
    record = record_of(row)
    return record if row.result_note is None else replace(record, result=Result(row.result or b"", row.result_note))
