"""Releases that the healer does not wait for to their end: while they are finalised in the ledger it leases and publishes the next ones.

Each job is still leased, published and finalised in this order. Of those between the last two steps there are at most MOST batches, so a
ledger that does not answer stops the releases. If the process dies there, their leases expire (`release.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from controlplane.release import Releaser
from sickbay.domain.queries import ReleaseLease

MOST: Final = 4
"""Batches at a time that are published and not finalised yet."""
CLOSE_S: Final = 3.0
"""Seconds that they get on close; they need milliseconds."""

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
        """Return when one more batch may be leased. Raises what made an earlier one fail."""
        while len(self._tasks) >= MOST:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self._raise()

    async def release(self, leases: Sequence[ReleaseLease], paid: Mapping[str, int]) -> None:
        """Publish leased jobs: they are durable in their lane on return. Raises what made this, or an earlier one, fail."""
        published = asyncio.Event()
        task = asyncio.create_task(self._release(leases, paid, published), name="release")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await published.wait()
        self._raise()

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

    async def _release(self, leases: Sequence[ReleaseLease], paid: Mapping[str, int], published: asyncio.Event) -> None:
        try:
            await self._releaser.release(leases, paid, on_published=published.set)
            self._on_released()
        except Exception as error:  # noqa: BLE001 - the next call raises it
            self._error = error
        finally:
            published.set()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
