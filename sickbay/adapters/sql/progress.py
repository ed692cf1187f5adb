"""Stores how far runs are. A run that does not say so has no row here, and costs no statement.

A row is never deleted before its job: readers take it only while the job is RUNNING in the same attempt (`details.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.engines import Insert
from sickbay.adapters.sql.schema import job_progress
from sickbay.domain.job import JobEvent
from sickbay.domain.progress import Progress

_ORDER = ("generation", "attempt", "started_at", "at")
"""Of two reports about one job the greater one is the later: an old run does not replace what a newer one says."""


class ProgressWriter:
    """Stores the progress in a batch of events."""

    def __init__(self, insert: Insert) -> None:
        """`insert` is into `job_progress`."""
        new, old = insert.excluded, job_progress.c
        is_later = tuple_(*(new[name] for name in _ORDER)) > tuple_(*(old[name] for name in _ORDER))
        replaced = {name: new[name] for name in (*_ORDER, "fraction", "message")}
        self._add = insert.on_conflict_do_update(index_elements=[old.job_id], set_=replaced, where=is_later)

    async def write(self, connection: AsyncConnection, latest: Mapping[str, JobEvent]) -> None:
        """Store the latest report about each job, by job id."""
        if latest:  # in the order of ids, so that two writers never deadlock
            await connection.execute(self._add, list(_values(latest[job_id] for job_id in sorted(latest))))


def _values(events: Iterable[JobEvent]) -> Iterable[dict[str, Any]]:
    for event in events:
        progress = event.progress or Progress(0.0)
        yield {
            "job_id": event.job.job_id,
            "generation": event.job.generation,
            "attempt": event.job.attempt,
            "started_at": event.started_at or 0,
            "at": progress.at,
            "fraction": progress.fraction,
            "message": progress.message,
        }
