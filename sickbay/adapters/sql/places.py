"""Where jobs are in their lives, according to the ledger: one read answers all workers' questions that came before it began.

When many parked jobs are released, each is compared with the ledger before it runs. One read for each would cost more than the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select

from sickbay.adapters.sql.chunks import MAX_VALUES
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import jobs
from sickbay.concurrency.tasks import DetachedTasks
from sickbay.domain.errors import ErrorReason, Refused, Unavailable

_COLUMNS: Final = (jobs.c.job_id, jobs.c.generation, jobs.c.attempt, jobs.c.rank, jobs.c.cancel_requested_at)
_PLACES: Final = select(*_COLUMNS).where(jobs.c.job_id.in_(bindparam("jobs", expanding=True)))


class Place(NamedTuple):
    """What the order of truth compares, and whether somebody asked to cancel the job after a run had begun."""

    generation: int
    attempt: int
    rank: int
    is_to_end: bool = False


Places = Mapping[str, Place]
"""By job id; jobs that the ledger does not know are missing."""
Read = Callable[[Collection[str]], Awaitable[Places]]


class _Batch:
    """The jobs that one read is about."""

    def __init__(self) -> None:
        self.job_ids: set[str] = set()
        self.places: asyncio.Future[Places] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        """The read failed, was broken off or never begun: whoever waits gets an error."""
        if not self.places.done():
            stopped = Unavailable("the service is stopping; nothing is lost, try again later", ErrorReason.SHUTTING_DOWN)
            self.places.set_exception(error if isinstance(error, Exception) else stopped)
            self.places.exception()  # retrieved


class PlaceReader:
    """One read at a time; those who ask meanwhile share the next one, at most 500 jobs in each.

    An answer is never older than its question: it is from a read that began later.
    """

    def __init__(self, read: Read, tasks: DetachedTasks) -> None:
        """Reads run in `tasks`, so that no caller that is cancelled breaks one off."""
        self._read = read
        self._tasks = tasks
        self._turn = asyncio.Lock()
        self._next: _Batch | None = None
        """The one whose read has not begun."""

    async def find(self, job_id: str) -> Place | None:
        """The place of a job, None if the ledger does not know it; Unavailable if the read fails."""
        batch, is_first = self._join(job_id)
        places = await (self._lead(batch) if is_first else asyncio.shield(batch.places))
        return places.get(job_id)

    def _join(self, job_id: str) -> tuple[_Batch, bool]:
        batch = self._next
        is_first = batch is None or len(batch.job_ids) >= MAX_VALUES
        if batch is None or is_first:
            batch = self._next = _Batch()
        batch.job_ids.add(job_id)
        return batch, is_first

    async def _lead(self, batch: _Batch) -> Places:
        try:
            return await self._tasks.run(self._answer(batch))
        except Refused as error:  # not even begun
            self._give_up(batch, error)
            raise

    async def _answer(self, batch: _Batch) -> Places:
        try:
            async with self._turn:
                self._close(batch)
                places = await self._read(batch.job_ids)
        except BaseException as error:
            self._give_up(batch, error)
            raise
        batch.places.set_result(places)
        return places

    def _close(self, batch: _Batch) -> None:
        """Nobody joins it any more."""
        if self._next is batch:
            self._next = None

    def _give_up(self, batch: _Batch, error: BaseException) -> None:
        self._close(batch)
        batch.fail(error)


def place_reader(store: Database) -> PlaceReader:
    """One that reads from this ledger."""

    async def read(job_ids: Collection[str]) -> Places:
        async with store.read() as connection:
            rows = await connection.execute(_PLACES, {"jobs": list(job_ids)})
            return {row.job_id: Place(row.generation, row.attempt, row.rank, row.cancel_requested_at is not None) for row in rows}

    return PlaceReader(read, store.detached)
