"""The registry of workers in memory: those of this process."""

from __future__ import annotations

from dataclasses import replace

from sickbay.domain.workers import TTL_MS, Fleet, Worker
from sickbay.ports import Clock


class EmbeddedWorkerRegistry:
    """Implements `WorkerRegistry`."""

    def __init__(self, clock: Clock) -> None:
        """No worker is known yet."""
        self._clock = clock
        self._workers: dict[str, Worker] = {}

    async def announce(self, worker: Worker) -> None:
        """Enter the worker, or replace what is known of it."""
        self._workers[worker.worker_id] = replace(worker, last_seen=self._clock())

    async def leave(self, worker_id: str) -> None:
        """Remove the worker at once."""
        self._workers.pop(worker_id, None)

    async def fleet(self) -> Fleet:
        """The live workers; those past their time are forgotten."""
        now = self._clock()
        # One that was seen later than now was seen before the clock was set back.
        self._workers = {key: one for key, one in self._workers.items() if abs(now - one.last_seen) < TTL_MS}
        return Fleet(now, sorted(self._workers.values(), key=lambda one: (one.name, one.worker_id)))
