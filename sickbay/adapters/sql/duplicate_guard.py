"""Tells a worker about a copy that may not be the only one: whether a later one exists, and how many workers died running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import bindparam, delete, select

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.places import Place, place_reader
from sickbay.adapters.sql.schema import suspects
from sickbay.adapters.sql.starts import Starts
from sickbay.concurrency.tasks import detached
from sickbay.domain.job import Job, JobState
from sickbay.domain.queries import DuplicateCheck
from sickbay.ports import Clock

_STARTS: Final = select(suspects.c.starts).where(
    suspects.c.job_id == bindparam("job"), suspects.c.generation == bindparam("generation"), suspects.c.attempt == bindparam("attempt")
)


class SqlDuplicateGuard:
    """Implements `DuplicateGuard`."""

    def __init__(self, store: Database, starts: Starts, clock: Clock) -> None:
        self._store = store
        self.detached = store.detached
        self._starts = starts
        self._clock = clock
        self._places = place_reader(store)
        insert = store.insert(suspects)
        self._count = insert.on_conflict_do_update(
            index_elements=[suspects.c.job_id, suspects.c.generation, suspects.c.attempt],
            set_={"starts": suspects.c.starts + 1, "at": insert.excluded.at},
        ).returning(suspects.c.starts)

    async def caught_up(self) -> None:
        """Return once the revoked copies were read."""
        await self._starts.loaded.wait()

    @detached
    async def check(self, job: Job, *, suspect: bool) -> DuplicateCheck:
        """Compare with the ledger; for a suspect that is not superseded also count the start of its run, durably."""
        place = await self._places.find(job.job_id)
        if _is_superseded(job, place):
            return DuplicateCheck(superseded=True)
        if place is not None and place.is_to_end:
            return DuplicateCheck(superseded=False, is_to_end=True)
        if not suspect:
            return DuplicateCheck(superseded=False)
        values = {"job_id": job.job_id, "generation": job.generation, "attempt": job.attempt, "starts": 1, "at": self._clock()}
        async with self._store.write() as connection:
            starts = (await connection.execute(self._count, values)).scalar_one()
        return DuplicateCheck(superseded=False, crashes=starts - 1)

    @detached
    async def crashes(self, job: Job) -> int:
        """How many workers died while they ran this copy as a suspect."""
        copy = {"job": job.job_id, "generation": job.generation, "attempt": job.attempt}
        async with self._store.read() as connection:
            return int((await connection.execute(_STARTS, copy)).scalar_one_or_none() or 0)

    @detached
    async def clear_crashes(self, job: Job) -> None:
        """The suspect's run has ended and its worker is alive: forget its crashes."""
        mine = suspects.c.job_id == job.job_id
        async with self._store.write(grows=False) as connection:
            await connection.execute(
                delete(suspects).where(mine, suspects.c.generation == job.generation, suspects.c.attempt == job.attempt)
            )

    def is_cancelled(self, job: Job) -> bool:
        """Whether no further run of this copy may begin; answers from memory."""
        return self._starts.is_revoked(job)

    def is_to_end(self, job: Job) -> bool:
        """Whether somebody asked to cancel the job after a run of it had begun; answers from memory."""
        return self._starts.is_to_end(job)

    async def begin(self, job: Job) -> bool:
        """A run is about to begin: False if it must not."""
        return await self._starts.begin(job)

    def end(self, job: Job) -> None:
        """The run is over."""
        self._starts.end(job)

    def register_worker(
        self, is_unreported: Callable[[str], bool], cancel: Callable[[str], None] = lambda _: None, *, takes_jobs: bool
    ) -> None:
        """This process runs jobs; `takes_jobs`: whether it consumes them now, `cancel` cancels the run of a job."""
        self._starts.register_worker(is_unreported, cancel, takes_jobs=takes_jobs)


def _is_superseded(job: Job, place: Place | None) -> bool:
    """Whether there is a later copy, or this one has ended; a running one does not count, because its worker may be dead."""
    if place is None or place.generation < job.generation:
        return False
    if place.generation > job.generation:
        return True
    return place.attempt > job.attempt or place.rank >= JobState.PARKED.rank
