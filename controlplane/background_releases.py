"""Releases that the healer does not wait for: while jobs are leased, published and finalised it reserves permits for the next ones.

Each job goes through these steps in this order. There are at most MOST batches at a time, so a ledger or a broker that does not answer
stops the releases. If the process dies in between, their leases expire (`release.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from controlplane.release import Releaser
from sickbay.domain.queries import ReleaseLease

MOST: Final = 4
"""Batches at a time that are not finalised yet."""
CLOSE_S: Final = 3.0
"""Seconds that they get on close; they need milliseconds."""

Leased = tuple[Sequence[ReleaseLease], Mapping[str, int]]
"""Jobs to publish, and when the runs of some of them were paid for, by job id."""

KeysOf = Callable[[Sequence[ReleaseLease]], Sequence[str]]

log = logging.getLogger(__name__)


class BackgroundReleases:
    """One per healer."""

    def __init__(self, releaser: Releaser, on_released: Callable[[], None]) -> None:
        """`on_released` is called when jobs have left the quarantine."""
        self._releaser = releaser
        self._on_released = on_released
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None

    async def has_room(self) -> None:
        """Return when one more batch may begin. Raises what made an earlier one fail."""
        while len(self._tasks) >= MOST:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self._raise()

    def begin(self, leasing: Awaitable[Leased], keys_of: KeysOf | None = None) -> None:
        """Release what `leasing` returns. What makes this fail is raised by the next call of another method.

        `keys_of` says where each job is to wait, if it is no backlog.
        """
        task = asyncio.create_task(self._release(leasing, keys_of), name="release")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Return when all are finalised. Raises what made one of them fail."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._raise()

    async def close(self) -> None:
        """Wait for all, but not for long: the leases of those that are cut off expire."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
        if self._error is not None:
            log.warning("a release was interrupted; its jobs are released again when their leases expire: %s", self._error)
        self._error = None

    async def _release(self, leasing: Awaitable[Leased], keys_of: KeysOf | None) -> None:
        try:
            leases, paid = await leasing
            if leases:
                await self._releaser.release(leases, paid, keys=None if keys_of is None else keys_of(leases))
                self._on_released()
        except Exception as error:  # noqa: BLE001 - the next call raises it
            self._error = error

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
