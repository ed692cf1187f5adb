"""Stores what handlers returned.

A job without a result has no row here, and is written without a statement for it. So a row is not deleted when the job succeeds again
without one: readers take a row only if the job's row names the same run (`details.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, BindParameter, LargeBinary, Text, bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.engines import Insert
from sickbay.adapters.sql.schema import job_results, jobs
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.result import Result


class ResultWriter:
    """Stores the results of a batch of events, after those were merged and in the same transaction."""

    def __init__(self, insert: Insert) -> None:
        """`insert` is into `job_results`."""
        self._add = _statement(insert)

    async def write(self, connection: AsyncConnection, events: Iterable[JobEvent]) -> None:
        """Store the results of those events that are the truth now; a replay changes nothing."""
        if rows := [_values(event, event.result) for event in events if event.result is not None]:
            await connection.execute(self._add, rows)


def _statement(insert: Insert) -> Insert:
    named: dict[str, BindParameter[Any]] = {
        "job_id": bindparam("job", type_=Text),
        "generation": bindparam("in_generation", type_=BigInteger),
        "run": bindparam("of_run", type_=Text),
        "at": bindparam("ended_at", type_=BigInteger),
        "result": bindparam("json", type_=LargeBinary),
        "note": bindparam("why_not", type_=Text),
    }
    is_truth = exists().where(
        jobs.c.job_id == bindparam("job", type_=Text),
        jobs.c.generation == bindparam("in_generation", type_=BigInteger),
        jobs.c.run == bindparam("of_run", type_=Text),
        jobs.c.state == JobState.SUCCEEDED.value,
    )
    new = insert.from_select(list(named), select(*named.values()).where(is_truth))
    replaced = {name: new.excluded[name] for name in named if name != "job_id"}
    return new.on_conflict_do_update(index_elements=[job_results.c.job_id], set_=replaced)


def _values(event: JobEvent, result: Result) -> dict[str, Any]:
    return {
        "job": event.job.job_id,
        "in_generation": event.job.generation,
        "of_run": event.run,
        "ended_at": event.at,
        "json": result.json or None,
        "why_not": result.note,
    }
