"""Carries the changes of jobs to those who watch them, every one and in order, inside one process; fed by `change_feed.py`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sickbay.domain.errors import ErrorReason, Unavailable
from sickbay.domain.job import JobRecord, StateChange

JobChange = tuple[JobRecord, StateChange]

MAX_WAITING: Final = 1_000
"""Changes a watcher may lag behind before it is cut off; a watcher never silently misses one."""


class Watcher(AsyncIterator[JobChange]):
    """One reader of one job's changes; ends with Unavailable when it was too slow or the ledger cannot vouch for completeness."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[JobChange] = deque()
        self._wake = asyncio.Event()
        self._end: Unavailable | None = None

    def put(self, news: JobChange) -> None:
        """Hand over one change, or cut the watcher off if it has too many before it."""
        if len(self._waiting) >= self._limit:
            self.cut(Unavailable("this watcher fell too far behind; watch again"))
        elif self._end is None:
            self._waiting.append(news)
            self._wake.set()

    def cut(self, error: Unavailable) -> None:
        """No more changes come; what waits can still be read, then `error` is raised."""
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
    """All watchers, by job. Plain calls only: nothing here waits."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._watchers: dict[str, set[Watcher]] = {}

    def add(self, job_id: str) -> Watcher:
        """Begin to watch."""
        watcher = Watcher(self._limit)
        self._watchers.setdefault(job_id, set()).add(watcher)
        return watcher

    def remove(self, job_id: str, watcher: Watcher) -> None:
        """Stop to watch; twice is harmless."""
        watchers = self._watchers.get(job_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(job_id, None)

    def watched(self, job_ids: Collection[str]) -> list[str]:
        """Those of `job_ids` that somebody watches."""
        return [job_id for job_id in job_ids if job_id in self._watchers] if self._watchers else []

    def publish(self, news: Iterable[JobChange]) -> None:
        """Tell every change to all who watch its job."""
        for record, change in news:
            for watcher in self._watchers.get(record.job.job_id, ()):
                watcher.put((record, change))

    @contextmanager
    def vouching(self, job_ids: Collection[str]) -> Iterator[None]:
        """Around a write: if nobody can say whether it happened, those who watch its jobs are cut off and must look again."""
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
