"""What a process knows of runs that must not begin: of jobs that were called off, and of jobs about which something is being decided.

All of it is in memory and is asked without waiting, so a healthy job pays two look-ups in dictionaries. How others learn of it is in
`holds.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Final

from sqlalchemy import or_, select

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import jobs
from sickbay.domain.job import Job, JobState
from sickbay.ports import Clock

REMEMBERED_MS: Final = 86_400_000
"""How long memory serves: a copy of a job older than that is compared with the ledger before it runs."""
HOLD_S: Final = 10.0
"""A hold whose owner vanished ends by itself after so long."""

_ENDED: Final = (jobs.c.job_id, jobs.c.generation)
_BROUGHT_BACK: Final = (jobs.c.job_id, jobs.c.called_off)


class Starts:
    """One per process. `called off` names, for each job, the latest generation of which no further run may begin."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._called_off: dict[str, tuple[int, int]] = {}
        self._holds: dict[str, frozenset[str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._begun: dict[str, int] = {}
        self._is_unreported: Callable[[str], bool] | None = None
        self.takes_jobs = False
        """Whether this process consumes jobs just now."""

    async def load(self, store: Database) -> None:
        """Read what was called off in the last 24 hours."""
        lately = jobs.c.updated_at > self._clock() - REMEMBERED_MS
        ended = jobs.c.state.in_([JobState.CANCELLED.value, JobState.DISCARDED.value])
        async with store.read() as connection:
            self.add((row.job_id, row.generation) for row in await connection.execute(select(*_ENDED).where(ended, lately)))
            left = or_(lately, jobs.c.lease_until.is_not(None))
            brought_back = select(*_BROUGHT_BACK).where(jobs.c.called_off.is_not(None), left)
            self.add((row.job_id, row.called_off) for row in await connection.execute(brought_back))

    def add(self, copies: Iterable[tuple[str, int]]) -> None:
        """No run of these may begin any more: job id, and the generation up to which that holds."""
        now = self._clock()
        for job_id, generation in copies:
            known, _ = self._called_off.pop(job_id, (-1, 0))  # so that the oldest stay in front
            self._called_off[job_id] = (max(known, generation), now)
        self.forget(now)

    def forget(self, now: int) -> None:
        """Drop what is older than 24 hours."""
        past = now - REMEMBERED_MS
        for job_id in list(takewhile(lambda job_id: self._called_off[job_id][1] <= past, self._called_off)):
            del self._called_off[job_id]

    def covers(self, job: Job) -> bool:
        """Whether this copy was called off."""
        copy = self._called_off.get(job.job_id)
        return copy is not None and job.generation <= copy[0]

    async def begin(self, job: Job) -> bool:
        """A run is about to begin: False if it must not. Waits only while somebody holds the job."""
        while (held := self._held.get(job.job_id)) is not None:
            await held.wait()
        if self.covers(job):
            return False
        self._begun[job.job_id] = self._begun.get(job.job_id, 0) + 1
        return True

    def end(self, job: Job) -> None:
        """The run is over, and what becomes of the job is durable or will be told."""
        left = self._begun.get(job.job_id, 0) - 1
        if left > 0:
            self._begun[job.job_id] = left
        else:
            self._begun.pop(job.job_id, None)

    def register_worker(self, is_unreported: Callable[[str], bool], *, takes_jobs: bool) -> None:
        """This process runs jobs; `untold` says of a job whether the end of a run of it is still to be told."""
        self._is_unreported = is_unreported
        self.takes_jobs = takes_jobs

    @property
    def works(self) -> bool:
        """Whether this process runs jobs, or has run some and may still have one in its hands."""
        return self._is_unreported is not None

    def hold(self, token: str, job_ids: Sequence[str]) -> list[str]:
        """Let no run of these begin until `release`, HOLD_S at most; which of them have begun here."""
        self._holds[token] = self._holds.get(token, frozenset()) | frozenset(job_ids)
        for job_id in job_ids:
            self._held.setdefault(job_id, asyncio.Event())
        if timer := self._timers.pop(token, None):
            timer.cancel()
        self._timers[token] = asyncio.get_running_loop().call_later(HOLD_S, self.release, token)
        return [job_id for job_id in job_ids if self._has_begun(job_id)]

    def release(self, token: str) -> None:
        """It has been decided; twice is harmless."""
        if timer := self._timers.pop(token, None):
            timer.cancel()
        let_go = self._holds.pop(token, frozenset())
        still = frozenset().union(*self._holds.values())
        for job_id in let_go - still:
            self._held.pop(job_id).set()

    def _has_begun(self, job_id: str) -> bool:
        return job_id in self._begun or (self._is_unreported is not None and self._is_unreported(job_id))
