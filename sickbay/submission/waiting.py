"""How many jobs wait: as the ledger has counted them, and those that this Job API has accepted since.

Once a second, while a bound is set, the ledger is asked how many jobs of each tenant wait and which is the newest that it knows. What this
process has accepted later is added to that. So a burst cannot slip through between two counts, and when the control plane is away, and the
ledger stands still, the jobs accepted meanwhile count on. What it cannot see until the next count: jobs that have run, and those
that other Job APIs have accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from time import monotonic
from typing import Final

from sickbay.concurrency.tasks import background
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job
from sickbay.ports import Clock
from sickbay.ports.limits import Waiting, WaitingCounts

COUNT_AGAIN_S: Final = 1.0
SHARE: Final = 0.1
"""Counting takes at most this part of the time, so that a ledger with millions of waiting jobs is not busy with it."""
STALE_S: Final = 30.0
"""After so long without a count nothing is limited: jobs that have run since would keep others out."""
SLOT_MS: Final = 100
MAX_SLOTS: Final = 1_000

log = logging.getLogger(__name__)


class WaitingJobs:
    """The waiting jobs as this Job API sees them."""

    def __init__(
        self, counts: WaitingCounts | None, clock: Clock, is_wanted: Callable[[], bool], now: Callable[[], float] = monotonic
    ) -> None:
        """`counts` is None without a ledger; `is_wanted`: whether a bound is set. `clock` stamps jobs; `now` is monotonic, in seconds."""
        self._counts = counts
        self._clock = clock
        self._is_wanted = is_wanted
        self._now = now
        self._counted: Mapping[str, int] = {}
        self._in_all = 0
        self._newest = 0
        self._counted_at: float | None = None
        self._since: dict[int, Counter[str]] = {}
        """Jobs accepted here that the ledger may not know yet, by time of submission (in slots) and tenant."""
        self._pending: Counter[str] = Counter()
        """The same by tenant alone: each submit asks for it."""
        self._pending_in_all = 0
        self._warned = False

    @property
    def is_wanted(self) -> bool:
        """Whether a bound is set."""
        return self._is_wanted()

    @property
    def counted(self) -> Mapping[str, int]:
        """The latest count of the ledger by tenant, for metrics; empty if it is outdated, or no bound is set."""
        return self._counted if self.is_known and self.is_wanted else {}

    def count(self, tenant: str | None) -> int | None:
        """How many jobs of the tenant wait, of all tenants if that is None; None if it is not known."""
        if not self.is_known:
            return None
        if tenant is None:
            return self._in_all + self._pending_in_all
        return self._counted.get(tenant, 0) + self._pending[tenant]

    def add(self, job: Job) -> None:
        """It is about to be accepted."""
        slot = job.submitted_at // SLOT_MS
        if slot not in self._since and len(self._since) >= MAX_SLOTS:
            oldest, second = sorted(self._since)[:2]
            self._since[second] += self._since.pop(oldest)
        self._since.setdefault(slot, Counter())[job.tenant] += 1
        self._forget({job.tenant: -1})

    def remove(self, job: Job) -> None:
        """It was not accepted after all."""
        slot = self._since.get(job.submitted_at // SLOT_MS)
        if slot is not None and slot[job.tenant] > 0:
            slot[job.tenant] -= 1
            self._forget({job.tenant: 1})

    async def refresh(self) -> None:
        """Count; if the ledger is unavailable, the count of before holds for a while."""
        if self._counts is None:
            self._warn()
            return
        began, now = self._clock(), self._now()
        with contextlib.suppress(Unavailable):
            self._apply(await self._counts.count(), began, now)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Count again and again while the context lasts and a bound is set."""
        async with background(self._watch):
            yield

    @property
    def is_known(self) -> bool:
        """Whether there is a count, and it is not outdated."""
        return self._counted_at is not None and self._now() - self._counted_at < STALE_S

    def _apply(self, found: Waiting, began: int, now: float) -> None:
        """What the ledger knows is not counted twice: all up to the slot of its newest job, as it gets them in order, or nearly so.

        It cannot know what came after it was asked, whatever the clocks of others say.
        """
        self._counted, self._in_all, self._counted_at = found.by_tenant, sum(found.by_tenant.values()), now
        self._newest = max(self._newest, min(found.newest, began - SLOT_MS))
        for slot in [slot for slot in self._since if slot <= self._newest // SLOT_MS]:
            self._forget(self._since.pop(slot))

    def _forget(self, counts: Mapping[str, int]) -> None:
        """So many jobs of each tenant are no longer pending."""
        for tenant, count in counts.items():
            self._pending[tenant] -= count
            self._pending_in_all -= count
            if not self._pending[tenant]:
                del self._pending[tenant]

    async def _watch(self) -> None:
        while True:
            before = self._now()
            if self._is_wanted():
                await self.refresh()
            await asyncio.sleep(max(COUNT_AGAIN_S, (self._now() - before) / SHARE))

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning("waiting jobs are not limited: this needs DATABASE_URL, which is not set for this service")
