"""The registry of workers. The rules of the package apply."""

from __future__ import annotations

from typing import Protocol

from sickbay.domain.workers import Fleet, Worker


class WorkerRegistry(Protocol):
    """Which workers are live (`docs/distributed.md`). A worker is, from its announcement until it leaves, or for `TTL_MS`."""

    async def announce(self, worker: Worker) -> None:
        """Enter the worker, or replace what is known of it; repeat it every `HEARTBEAT_MS`. `last_seen` is the registry's time."""

    async def leave(self, worker_id: str) -> None:
        """Remove the worker at once; nothing happens if it is unknown."""

    async def fleet(self) -> Fleet:
        """The live workers. Unavailable if they are unknown, which never means that there are none."""
