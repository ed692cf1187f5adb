"""Announces a worker to the registry while it runs, so that others know which job types it handles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable
from sickbay.domain.lane import Flow
from sickbay.domain.workers import HEARTBEAT_MS, Worker, busiest
from sickbay.ports.workers import WorkerRegistry

HEARTBEAT_S: Final = HEARTBEAT_MS / 1000
MAX_FLOODS: Final = 1_000
TOLD_AFTER: Final = 2
"""A single failure is nothing: the registry keeps a worker for three heartbeats."""

log = logging.getLogger(__name__)


class Presence:
    """One per worker: `announce` before it takes jobs, `run` while it does, `leave` once it has stopped."""

    def __init__(
        self,
        registry: WorkerRegistry,
        worker: Worker,
        slots_in_use: Callable[[], int],
        floods: Callable[[], Collection[Flow]] = tuple,
        *,
        job_types: Callable[[], Collection[str]] | None = None,
        schemas: Callable[[], Collection[tuple[str, str]]] | None = None,
        schedules: Callable[[], tuple[str, int]] | None = None,
        running: Callable[[], Mapping[str, int]] = dict,
        every_s: float = HEARTBEAT_S,
    ) -> None:
        """`worker` is what does not change; `every_s` is how often it is announced.

        `job_types`, `schemas` and `schedules` (with since when) say what it handles, if that may differ from what `worker` says, and
        `running` how many jobs of each tenant run.
        """
        self._job_types = job_types or (lambda: worker.job_types)
        self._schemas = schemas or (lambda: worker.schemas)
        self._schedules = schedules or (lambda: (worker.schedules, worker.code_since))
        self._floods = floods
        self._registry = registry
        self._worker = worker
        self._slots_in_use = slots_in_use
        self._running = running
        self._every_s = every_s
        self._draining = False
        self._changed = asyncio.Event()
        self._failures = 0

    async def announce(self) -> None:
        """Announce the worker as it is now. Nothing else depends on that here; if it fails twice in a row, that is logged once."""
        try:
            floods = tuple(sorted(self._floods()))[:MAX_FLOODS]
            types, schemas = tuple(sorted(self._job_types())), tuple(sorted(self._schemas()))
            digest, since = self._schedules()
            now = replace(self._worker, job_types=types, schemas=schemas, draining=self._draining, floods=floods)
            now = replace(now, schedules=digest, code_since=since)
            now = replace(now, slots_in_use=self._slots_in_use(), tenants=busiest(self._running()))
            await self._registry.announce(now)
        except Unavailable as error:
            self._failures += 1
            if self._failures == TOLD_AFTER:
                log.warning("this worker cannot announce itself, so others do not know its job types: %s", error)
        else:
            if self._failures >= TOLD_AFTER:
                log.info("this worker could announce itself again")
            self._failures = 0

    async def run(self) -> None:
        """Announce the worker again and again, until cancelled."""
        while True:
            await wait_for_event(self._changed, self._every_s)
            self._changed.clear()
            await self.announce()

    def tell(self) -> None:
        """A flow begins to flood, or it handles other types: announced soon, so that the Job API routes by that."""
        self._changed.set()

    def drain(self) -> None:
        """It takes no more jobs: announced soon."""
        self._draining = True
        self._changed.set()

    async def leave(self) -> None:
        """It is no longer live. If the registry is unavailable, it forgets the worker by itself."""
        try:
            await self._registry.leave(self._worker.worker_id)
        except Unavailable as error:
            log.info("this worker could not sign off: %s", error)
