"""Delivers the changes of jobs to their watchers inside one process, every one and in order; fed by `change_feed.py`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sickbay.domain.errors import ErrorReason, Unavailable
from sickbay.domain.job import JobRecord, StateChange

JobChange = tuple[JobRecord, StateChange | None]
"""The job after a change, and the change; None if only its progress is another one."""

MAX_WAITING: Final = 1_000
"""How many changes a watcher may be behind before it is cut off; a watcher never silently misses one."""


class Watcher(AsyncIterator[JobChange]):
    """A reader of one job's changes; ends with Unavailable if it was too slow or a change may be missing."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[JobChange] = deque()
        self._wake = asyncio.Event()
        self._end: Unavailable | None = None

    def put(self, changes: JobChange) -> None:
        """Add a change, or cut the watcher off if too many are waiting."""
        if len(self._waiting) >= self._limit:
            self.cut(Unavailable("this watcher fell too far behind; watch again"))
        elif self._end is None:
            self._waiting.append(changes)
            self._wake.set()

    def cut(self, error: Unavailable) -> None:
        """End the watcher: waiting changes can still be read, then `error` is raised."""
        self._end = self._end or error
        self._wake.set()

    async def __anext__(self) -> JobChange:
        while not self._waiting:
            if self._end:
                raise self._end
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()


class Subscribers:
    """All watchers, by job. All methods are synchronous."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._watchers: dict[str, set[Watcher]] = {}

    def add(self, job_id: str) -> Watcher:
        """Start watching."""
        watcher = Watcher(self._limit)
        self._watchers.setdefault(job_id, set()).add(watcher)
        return watcher

    def remove(self, job_id: str, watcher: Watcher) -> None:
        """Stop watching; twice is harmless."""
        watchers = self._watchers.get(job_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(job_id, None)

    def watched(self, job_ids: Collection[str]) -> list[str]:
        """Those of `job_ids` that are watched."""
        return [job_id for job_id in job_ids if job_id in self._watchers] if self._watchers else []

    def publish(self, changes: Iterable[JobChange]) -> None:
        """Deliver every change to all watchers of its job."""
        for record, change in changes:
            for watcher in self._watchers.get(record.job.job_id, ()):
                watcher.put((record, change))

    @contextmanager
    def cut_off_on_failure(self, job_ids: Collection[str]) -> Iterator[None]:
        """Around a write: if its commit is uncertain, the watchers of its jobs are cut off and must read again."""
        try:
            yield
        except (Unavailable, asyncio.CancelledError):
            for job_id in job_ids:
                for watcher in self._watchers.get(job_id, ()):
                    watcher.cut(Unavailable("a change may have been missed; watch again"))
            raise

    def close(self) -> None:
        """End all watchers."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.cut(Unavailable("the ledger is closing", ErrorReason.SHUTTING_DOWN))
