"""Which runs must not begin in this process: those of revoked copies, and those of jobs that are held while a decision is made.

And which are to be cancelled, because somebody asked for it after they had begun.

All of it is in memory and synchronous, so a healthy job costs three dictionary look-ups. `holds.py` distributes it to other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Final

from sqlalchemy import or_, select

from sickbay.adapters.sql.cancel_requests import UNFINISHED
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.schema import jobs
from sickbay.domain.job import Job, JobState
from sickbay.ports import Clock

REMEMBERED_MS: Final = 86_400_000
"""How long revoked copies are remembered: a copy of an older job is compared with the ledger before it runs."""
HOLD_S: Final = 10.0
"""After so long a hold expires if its owner died."""

_ENDED: Final = (jobs.c.job_id, jobs.c.generation)
_REQUEUED: Final = (jobs.c.job_id, jobs.c.called_off)


def _nothing(_: str) -> None:
    """No run is here that could be cancelled."""


class Starts:
    """One per process. For each revoked job it keeps the latest generation of which no further run may begin."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._revoked: dict[str, tuple[int, int]] = {}
        self._holds: dict[str, frozenset[str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._begun: dict[str, int] = {}
        self._to_cancel: dict[str, int] = {}
        """The jobs that are to end, and since when (ms), oldest first."""
        self._cancel: Callable[[str], None] = _nothing
        self._is_unreported: Callable[[str], bool] | None = None
        self.takes_jobs = False
        """Whether this process consumes jobs now."""
        self.loaded = asyncio.Event()
        """Set once the revoked copies were read."""

    async def load(self, store: Database) -> None:
        """Read the copies revoked in the last 24 hours."""
        recent = jobs.c.updated_at > self._clock() - REMEMBERED_MS
        ended = jobs.c.state.in_([JobState.CANCELLED.value, JobState.DISCARDED.value])
        async with store.read() as connection:
            self.revoke((row.job_id, row.generation) for row in await connection.execute(select(*_ENDED).where(ended, recent)))
            left = or_(recent, jobs.c.lease_until.is_not(None))
            requeued = select(*_REQUEUED).where(jobs.c.called_off.is_not(None), left)
            self.revoke((row.job_id, row.called_off) for row in await connection.execute(requeued))
            self.request_cancel((await connection.execute(UNFINISHED)).scalars())
        self.loaded.set()

    def revoke(self, copies: Iterable[tuple[str, int]]) -> None:
        """Let no run of these copies begin any more: job id, and the generation up to which that applies."""
        now = self._clock()
        for job_id, generation in copies:
            known, _ = self._revoked.pop(job_id, (-1, 0))  # so that the oldest stay first
            self._revoked[job_id] = (max(known, generation), now)
        self.forget(now)

    def forget(self, now: int) -> None:
        """Forget what is older than 24 hours."""
        past = now - REMEMBERED_MS
        for job_id in list(takewhile(lambda job_id: self._revoked[job_id][1] <= past, self._revoked)):
            del self._revoked[job_id]
        for job_id in list(takewhile(lambda job_id: self._to_cancel[job_id] <= past, self._to_cancel)):
            del self._to_cancel[job_id]

    def request_cancel(self, job_ids: Iterable[str]) -> None:
        """Let these jobs end: their runs here are cancelled now."""
        now = self._clock()
        for job_id in job_ids:
            self._to_cancel.pop(job_id, None)
            self._to_cancel[job_id] = now
            if job_id in self._begun:
                self._cancel(job_id)

    def is_to_end(self, job: Job) -> bool:
        """Whether somebody asked to cancel the job after a run of it had begun."""
        return job.job_id in self._to_cancel

    def is_revoked(self, job: Job) -> bool:
        """Whether this copy was revoked."""
        copy = self._revoked.get(job.job_id)
        return copy is not None and job.generation <= copy[0]

    async def begin(self, job: Job) -> bool:
        """A run is about to begin: False if it must not. Waits only while the job is held."""
        while (held := self._held.get(job.job_id)) is not None:
            await held.wait()
        if self.is_revoked(job):
            return False
        self._begun[job.job_id] = self._begun.get(job.job_id, 0) + 1
        return True

    def end(self, job: Job) -> None:
        """The run is over, and its result is durable or will be published."""
        left = self._begun.get(job.job_id, 0) - 1
        if left > 0:
            self._begun[job.job_id] = left
        else:
            self._begun.pop(job.job_id, None)

    def register_worker(self, is_unreported: Callable[[str], bool], cancel: Callable[[str], None] = _nothing, *, takes_jobs: bool) -> None:
        """This process runs jobs; `is_unreported`: whether the end of a run of this job still has to be published.

        `cancel` is called with a job whose run here is to be cancelled.
        """
        self._is_unreported = is_unreported
        self._cancel = cancel
        self.takes_jobs = takes_jobs

    @property
    def runs_jobs(self) -> bool:
        """Whether this process runs jobs, or has run some and may still have one unsettled."""
        return self._is_unreported is not None

    def hold(self, token: str, job_ids: Sequence[str]) -> list[str]:
        """Let no run of these jobs begin until `release`, HOLD_S at most; returns those of which a run has begun here."""
        self._holds[token] = self._holds.get(token, frozenset()) | frozenset(job_ids)
        for job_id in job_ids:
            self._held.setdefault(job_id, asyncio.Event())
        if timer := self._timers.pop(token, None):
            timer.cancel()
        self._timers[token] = asyncio.get_running_loop().call_later(HOLD_S, self.release, token)
        return [job_id for job_id in job_ids if self._has_begun(job_id)]

    def release(self, token: str) -> None:
        """End a hold; twice is harmless."""
        if timer := self._timers.pop(token, None):
            timer.cancel()
        released = self._holds.pop(token, frozenset())
        held = frozenset().union(*self._holds.values())
        for job_id in released - held:
            self._held.pop(job_id).set()

    def _has_begun(self, job_id: str) -> bool:
        return job_id in self._begun or (self._is_unreported is not None and self._is_unreported(job_id))
