"""Answers a worker that holds a copy which may not be the only one: is there later news, and how many workers died of it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Final

from sqlalchemy import bindparam, delete, select

from sickbay.adapters.sql.schema import jobs, suspects
from sickbay.adapters.sql.store import Store
from sickbay.job import Job, State
from sickbay.ports import Clock
from sickbay.queries import Entry

REMEMBERED_MS: Final = 86_400_000
"""How long a cancelled job's copy is expected to turn up in the queue."""

_STARTS: Final = select(suspects.c.starts).where(
    suspects.c.job_id == bindparam("job"), suspects.c.generation == bindparam("generation"), suspects.c.attempt == bindparam("attempt")
)
_PLACE: Final = select(jobs.c.generation, jobs.c.attempt, jobs.c.rank).where(jobs.c.job_id == bindparam("job"))


class Cancelled:
    """The jobs that were called off, in memory: `(generation, attempt)` of the latest copy that must not start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._copies: dict[str, tuple[int, int, int]] = {}

    async def load(self, store: Store) -> None:
        """Read what was cancelled in the last 24 hours."""
        query = select(jobs.c.job_id, jobs.c.generation, jobs.c.attempt).where(
            jobs.c.state == State.CANCELLED.value, jobs.c.updated_at > self._clock() - REMEMBERED_MS
        )
        async with store.read() as connection:
            self.add((row.job_id, row.generation, row.attempt) for row in await connection.execute(query))

    def add(self, copies: Iterable[tuple[str, int, int]]) -> None:
        """Remember cancelled copies: job id, generation, attempt."""
        now = self._clock()
        for job_id, generation, attempt in copies:
            self._copies.pop(job_id, None)  # so that the oldest stay in front
            self._copies[job_id] = (generation, attempt, now)
        self.forget(now)

    def forget(self, now: int) -> None:
        """Drop what is older than 24 hours."""
        past = now - REMEMBERED_MS
        for job_id in list(takewhile(lambda job_id: self._copies[job_id][2] <= past, self._copies)):
            del self._copies[job_id]

    def covers(self, job: Job) -> bool:
        """Whether this copy was called off."""
        copy = self._copies.get(job.job_id)
        return copy is not None and (job.generation, job.attempt) <= copy[:2]


class SqlFence:
    """Implements `Fence`."""

    def __init__(self, store: Store, cancelled: Cancelled, clock: Clock) -> None:
        self._store = store
        self._cancelled = cancelled
        self._clock = clock
        starts = store.insert(suspects)
        self._count = starts.on_conflict_do_update(
            index_elements=[suspects.c.job_id, suspects.c.generation, suspects.c.attempt],
            set_={"starts": suspects.c.starts + 1, "at": starts.excluded.at},
        ).returning(suspects.c.starts)

    async def enter(self, job: Job, *, suspect: bool) -> Entry:
        """Compare with the ledger; for a suspect that is not superseded also count, durably, that a run begins now."""
        if await self._is_superseded(job):
            return Entry(superseded=True)
        if not suspect:
            return Entry(superseded=False)
        values = {"job_id": job.job_id, "generation": job.generation, "attempt": job.attempt, "starts": 1, "at": self._clock()}
        async with self._store.write() as connection:
            starts = (await connection.execute(self._count, values)).scalar_one()
        return Entry(superseded=False, crashes=starts - 1)

    async def crashes(self, job: Job) -> int:
        """How many workers died while they ran this copy as a suspect."""
        copy = {"job": job.job_id, "generation": job.generation, "attempt": job.attempt}
        async with self._store.read() as connection:
            return int((await connection.execute(_STARTS, copy)).scalar_one_or_none() or 0)

    async def leave(self, job: Job) -> None:
        """The suspect's run came to an end, its worker alive: forget its crashes."""
        mine = suspects.c.job_id == job.job_id
        async with self._store.write() as connection:
            await connection.execute(
                delete(suspects).where(mine, suspects.c.generation == job.generation, suspects.c.attempt == job.attempt)
            )

    def is_cancelled(self, job: Job) -> bool:
        """Whether the job was called off before it started; answers from memory."""
        return self._cancelled.covers(job)

    async def _is_superseded(self, job: Job) -> bool:
        """Later truth is a later copy, or the end of this one; that it is running does not supersede it, its worker may be dead."""
        async with self._store.read() as connection:
            row = (await connection.execute(_PLACE, {"job": job.job_id})).first()
        if row is None or row.generation < job.generation:
            return False
        if row.generation > job.generation:
            return True
        return bool(row.attempt > job.attempt or row.rank >= State.PARKED.rank)
