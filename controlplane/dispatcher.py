"""Sends SCHEDULED jobs to the workers when they are due: lease in the ledger, publish, confirm, finalise, as a release does.

It asks the ledger when the next one is due, which is one look into an index, and sleeps until then. It looks again when it hears of a job
that is due earlier, and once a second, since other control planes hear of other jobs and one of them may have died. They share the work by
the ledger's leases. While one batch is published and finalised, the next ones are leased.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from controlplane.background_releases import BackgroundReleases, Leased
from controlplane.release import UNPAID, Releaser
from sickbay.concurrency.pauses import Backoff
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.queries import ReleaseLease
from sickbay.ports import Broker, Queue
from sickbay.ports.scheduled_jobs import ScheduledJobs
from sickbay.submission.lanes import LaneChoice

BY: Final = "scheduler"
"""Who releases them, for observers."""
LOOK_S: Final = 1.0
BATCH: Final = 250
"""Jobs that are leased at a time: each has its payload, which may be a megabyte."""
FAILED_S: Final = 0.5
LONGEST_FAILED_S: Final = 5.0

log = logging.getLogger(__name__)


class Dispatcher:
    """One per control plane."""

    def __init__(
        self,
        jobs: ScheduledJobs,
        broker: Broker,
        releaser: Releaser,
        lanes: LaneChoice,
        *,
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        """Due jobs wait in the lanes of new ones, as `lanes` chooses. `on_sent` is called when some were sent."""
        self._jobs = jobs
        self._broker = broker
        self._releases = BackgroundReleases(releaser, on_sent)
        self._lanes = lanes
        self._wake = asyncio.Event()
        self._backoff = Backoff(FAILED_S, LONGEST_FAILED_S)

    def wake(self) -> None:
        """A job may be due earlier than those that are known."""
        self._wake.set()

    def observe_events(self, events: Sequence[JobEvent]) -> None:
        """The ledger has taken these."""
        if any(event.state is JobState.SCHEDULED for event in events):
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    wait_s = await self.send_due()
                except Unavailable as error:
                    wait_s = self._backoff.next_s()
                    log.warning("sending scheduled jobs is suspended, retrying in %.1f s: %s", wait_s, error)
                    await asyncio.sleep(wait_s)
                    continue
                self._backoff.reset()
                await wait_for_event(self._wake, wait_s)
        finally:
            await self._releases.close()

    async def send_due(self) -> float:
        """Send all that are due now; returns in how many seconds to look again, LOOK_S at most."""
        while True:
            await self._releases.has_room()
            next_ms = await self._jobs.next_ms()
            if next_ms is None or next_ms > 0:
                await self._releases.finish()
                return LOOK_S if next_ms is None else min(LOOK_S, next_ms / 1000)
            await self._broker.depth(Queue.MAIN)  # Unavailable now rather than with leased jobs, which would have to wait for their leases
            await self._lanes.look()
            leases = await self._jobs.lease_due(BATCH)
            if not leases:  # another control plane was faster
                await self._releases.finish()
                return LOOK_S / 10
            self._releases.begin(_leased(leases), self._keys_of)

    def _keys_of(self, leases: Sequence[ReleaseLease]) -> Sequence[str]:
        return self._lanes.keys([lease.job for lease in leases])


async def _leased(leases: Sequence[ReleaseLease]) -> Leased:
    return leases, UNPAID
