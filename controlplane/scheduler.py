"""Lets schedules fire when their times come, follows their jobs, and deletes old runs.

It asks the ledger when the next schedule is due, which is one look into an index, and sleeps until then. It looks again when a schedule of
this process has changed, and once a second, since other control planes change others and one of them may have died. What happens is one
transaction in the ledger, so they share the work by its locks, and the dispatcher sends the jobs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sickbay.concurrency.pauses import Backoff, jitter
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.breaker import BreakerRule
from sickbay.domain.errors import Unavailable
from sickbay.domain.schedule_firing import decide
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Breakers
from sickbay.ports.schedules import IsOpen, Schedules

LOOK_S: Final = 1.0
BATCH: Final = 50
"""Schedules that fire in one transaction: each has its payload, which may be a megabyte."""
FOLLOWED: Final = 1_000
"""Runs whose jobs are looked at each time."""
FAILED_S: Final = 0.5
LONGEST_FAILED_S: Final = 5.0
PRUNE_EVERY_S: Final = 3_600.0
PRUNE_RETRY_S: Final = 60.0
"""When the ledger is unavailable, doubled up to PRUNE_EVERY_S."""

log = logging.getLogger(__name__)


class Scheduler:
    """One per control plane."""

    def __init__(
        self,
        schedules: Schedules,
        breakers: Breakers,
        scope: BreakerRule,
        *,
        on_fired: Callable[[], None] = lambda: None,
        observer: Observer = NOBODY,
    ) -> None:
        """`scope` says whose breaker a job asks. `on_fired` is called when there are new jobs, which may be due at once."""
        self._schedules = schedules
        self._breakers = breakers
        self._scope = scope
        self._on_fired = on_fired
        self._observer = observer
        self._wake = asyncio.Event()
        self._backoff = Backoff(FAILED_S, LONGEST_FAILED_S)
        self._prune_backoff = Backoff(PRUNE_RETRY_S, PRUNE_EVERY_S)

    def wake(self) -> None:
        """A schedule may be due earlier than those that are known."""
        self._wake.set()

    async def run(self) -> None:
        """Let schedules fire until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.follow()
                wait_s = await self.fire_due()
            except Unavailable as error:
                wait_s = self._backoff.next_s()
                log.warning("schedules are suspended, retrying in %.1f s: %s", wait_s, error)
                await asyncio.sleep(wait_s)
                continue
            self._backoff.reset()
            await wait_for_event(self._wake, wait_s)

    async def fire_due(self) -> float:
        """Let all fire that are due now; returns in how many seconds to look again, LOOK_S at most."""
        while True:
            next_ms = await self._schedules.next_due_ms()
            if next_ms is None or next_ms > 0:
                return LOOK_S if next_ms is None else min(LOOK_S, next_ms / 1000)
            fired = await self._schedules.fire_due(decide, await self._circuits(), BATCH)
            if not fired:  # another control plane was faster
                return LOOK_S / 10
            self._observer.schedules_fired(fired)
            self._on_fired()

    async def follow(self) -> None:
        """Look what has become of the jobs of runs."""
        if news := await self._schedules.settle_runs(FOLLOWED):
            self._observer.schedule_jobs_changed(news)

    async def prune(self) -> None:
        """Delete old runs once an hour, until cancelled."""
        while True:
            wait_s = await self.prune_once()
            await asyncio.sleep(wait_s)

    async def prune_once(self) -> float:
        """Delete old runs; returns how many seconds to wait until the next time."""
        try:
            deleted = await self._schedules.prune_runs()
        except Unavailable:
            return self._prune_backoff.next_s()
        self._prune_backoff.reset()
        if deleted:
            log.info("%d runs of schedules were deleted after 30 days", deleted)
        return PRUNE_EVERY_S * jitter()

    async def _circuits(self) -> IsOpen:
        """Which circuits are open. None if that is not known: the jobs are submitted, and the workers park them."""
        try:
            refusing = {breaker.key for breaker in await self._breakers.snapshots() if breaker.state.refuses}
        except Unavailable as error:
            log.warning("schedules fire without knowing which circuits are open: %s", error)
            refusing = set()
        return lambda job_type, tenant: self._scope.key_of(job_type, tenant) in refusing
