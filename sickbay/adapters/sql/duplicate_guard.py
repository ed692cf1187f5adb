"""Answers a worker that holds a copy which may not be the only one: is there later news, and how many workers died of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import bindparam, delete, select

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import jobs, suspects
from sickbay.adapters.sql.starts import Starts
from sickbay.concurrency.tasks import detached
from sickbay.domain.job import Job, JobState
from sickbay.domain.queries import DuplicateCheck
from sickbay.ports import Clock

_STARTS: Final = select(suspects.c.starts).where(
    suspects.c.job_id == bindparam("job"), suspects.c.generation == bindparam("generation"), suspects.c.attempt == bindparam("attempt")
)
_PLACE: Final = select(jobs.c.generation, jobs.c.attempt, jobs.c.rank).where(jobs.c.job_id == bindparam("job"))


class SqlDuplicateGuard:
    """Implements `DuplicateGuard`."""

    def __init__(self, store: Database, known: Starts, clock: Clock) -> None:
        self._store = store
        self.detached = store.detached
        self._known = known
        self._clock = clock
        starts = store.insert(suspects)
        self._count = starts.on_conflict_do_update(
            index_elements=[suspects.c.job_id, suspects.c.generation, suspects.c.attempt],
            set_={"starts": suspects.c.starts + 1, "at": starts.excluded.at},
        ).returning(suspects.c.starts)

    @detached
    async def check(self, job: Job, *, suspect: bool) -> DuplicateCheck:
        """Compare with the ledger; for a suspect that is not superseded also count, durably, that a run begins now."""
        if await self._is_superseded(job):
            return DuplicateCheck(superseded=True)
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
        """The suspect's run came to an end, its worker alive: forget its crashes."""
        mine = suspects.c.job_id == job.job_id
        async with self._store.write(grows=False) as connection:
            await connection.execute(
                delete(suspects).where(mine, suspects.c.generation == job.generation, suspects.c.attempt == job.attempt)
            )

    def is_cancelled(self, job: Job) -> bool:
        """Whether no further run of this copy may begin; answers from memory."""
        return self._known.covers(job)

    async def begin(self, job: Job) -> bool:
        """A run is about to begin: False if it must not."""
        return await self._known.begin(job)

    def end(self, job: Job) -> None:
        """The run that has begun is over."""
        self._known.end(job)

    def register_worker(self, is_unreported: Callable[[str], bool], *, takes_jobs: bool) -> None:
        """This process runs jobs, and consumes them or does so no longer."""
        self._known.register_worker(is_unreported, takes_jobs=takes_jobs)

    async def _is_superseded(self, job: Job) -> bool:
        """Later truth is a later copy, or the end of this one; that it is running does not supersede it, its worker may be dead."""
        async with self._store.read() as connection:
            row = (await connection.execute(_PLACE, {"job": job.job_id})).first()
        if row is None or row.generation < job.generation:
            return False
        if row.generation > job.generation:
            return True
        return bool(row.attempt > job.attempt or row.rank >= JobState.PARKED.rank)
