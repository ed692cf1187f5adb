"""How those who watch jobs learn of writes: a feed wraps each write, and hands out watchers.

`LocalChangeFeed` is for databases that this process alone writes (SQLite): it judges events inside the write and tells after the commit.
`postgres_feed.PostgresChangeFeed` is for those that many processes write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.fingerprint import fingerprint
from sickbay.adapters.sql.merge import told
from sickbay.adapters.sql.rows import WHOLE, etag, record_of
from sickbay.adapters.sql.schema import jobs
from sickbay.adapters.sql.subscribers import JobChange, Subscribers, Watcher
from sickbay.domain.job import JobEvent


class Write(Protocol):
    """A write under way. What is told here is heard by watchers once it has been committed, or never."""

    @property
    def connection(self) -> AsyncConnection:
        """The transaction."""

    async def tell_of(self, events: Sequence[JobEvent]) -> None:
        """These events are going to be merged; to be called before they are."""

    def tell(self, news: Iterable[JobChange]) -> None:
        """These changes have been made."""

    def call_off(self, copies: Iterable[tuple[str, int]]) -> None:
        """No run of these jobs (job id, latest generation) must begin any more."""


class ChangeFeed(Protocol):
    """Between the writers of a ledger and its watchers."""

    def write(self, job_ids: Collection[str]) -> AbstractAsyncContextManager[Write]:
        """A transaction that may change these jobs."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[Watcher]:
        """Every change of the job applied from the moment of entering on, in order."""


class _LocalWrite:
    def __init__(self, connection: AsyncConnection, hub: Subscribers) -> None:
        self.connection = connection
        self.news: list[JobChange] = []
        self._hub = hub

    async def tell_of(self, events: Sequence[JobEvent]) -> None:
        if watched := self._hub.watched({event.job.job_id for event in events}):
            self.news += await _news(self.connection, watched, events)

    def tell(self, news: Iterable[JobChange]) -> None:
        self.news += news

    def call_off(self, copies: Iterable[tuple[str, int]]) -> None:
        """Nobody else to tell."""


class LocalChangeFeed:
    """Implements `ChangeFeed` inside one process."""

    def __init__(self, store: Database, hub: Subscribers) -> None:
        self._store = store
        self._hub = hub

    @asynccontextmanager
    async def write(self, job_ids: Collection[str]) -> AsyncIterator[Write]:
        """A transaction that may change these jobs; who watches them is cut off if nobody can say whether it did."""
        with self._hub.vouching(job_ids):
            async with self._store.write() as connection:
                write = _LocalWrite(connection, self._hub)
                yield write
        self._hub.publish(write.news)

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watcher]:
        """Every change of the job applied from the moment of entering on, in order."""
        async with self._store.pause():  # a write under way would end after the entering, but its watchers were looked up before
            watcher = self._hub.add(job_id)
        try:
            yield watcher
        finally:
            self._hub.remove(job_id, watcher)


async def _news(connection: AsyncConnection, watched: Sequence[str], events: Sequence[JobEvent]) -> list[JobChange]:
    """What the events change for watched jobs, judged by their rows before the merge, in the same transaction."""
    rows = {row.job_id: row for row in await connection.execute(select(*WHOLE).where(jobs.c.job_id.in_(watched)))}
    news: list[JobChange] = []
    for job_id in watched:
        row = rows.get(job_id)
        of_job = [event for event in events if event.job.job_id == job_id]
        if row and row.lease_until is not None:  # it is on its way into the next generation: nothing changes this one any more
            of_job = [event for event in of_job if event.job.generation > row.generation]
        for record, change in told(record_of(row) if row else None, of_job):
            tag = etag(job_id, record.job.generation, record.job.attempt, record.state, row.revision if row else 0)
            shape = fingerprint(change.message) if record.state.in_quarantine else ""
            news.append((replace(record, etag=tag, fingerprint=shape), change))
    return news
