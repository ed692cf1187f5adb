"""Bounds the history of a job that is retried or released very often: its first entries stay, which show how it began, and the newest.

What people did is kept, and so is every end; only retries, and what the healer parked and released, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Final

from sqlalchemy import and_, bindparam, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.chunks import chunks
from sickbay.adapters.sql.schema import job_changes
from sickbay.domain.job import JobEvent, JobState

FIRST: Final = 20
NEWEST: Final = 80

_c: Final = job_changes.c
_WITHOUT_PERSON: Final = or_(
    _c.state.in_([JobState.RETRYING.value, JobState.PARKED.value]), and_(_c.state == JobState.QUEUED.value, _c.actor == "")
)
_ENTRIES: Final = (
    select(_c.job_id, _c.generation, _c.attempt, _c.state)
    .where(_c.job_id.in_(bindparam("jobs", expanding=True)), _WITHOUT_PERSON)
    .order_by(_c.job_id, _c.generation, _c.attempt, _c.at)
)
_FORGET: Final = delete(job_changes).where(
    _c.job_id == bindparam("job"),
    _c.generation == bindparam("in_generation"),
    _c.attempt == bindparam("at_attempt"),
    _c.state == bindparam("in_state"),
)


async def shorten_histories(connection: AsyncConnection, events: Iterable[JobEvent]) -> None:
    """Delete the middle of the histories of these events' jobs, in the transaction that has added to them."""
    for some in chunks(sorted({event.job.job_id for event in events if _may_be_long(event)})):
        rows = (await connection.execute(_ENTRIES, {"jobs": some})).all()
        middle = [row for _, entries in groupby(rows, attrgetter("job_id")) for row in list(entries)[FIRST:-NEWEST]]
        if middle:
            await connection.execute(
                _FORGET,
                [{"job": row.job_id, "in_generation": row.generation, "at_attempt": row.attempt, "in_state": row.state} for row in middle],
            )


def _may_be_long(event: JobEvent) -> bool:
    """Each attempt leaves one entry, each release two: one look at the numbers spares nearly all jobs the query."""
    return event.job.attempt + 2 * event.job.generation > FIRST + NEWEST
