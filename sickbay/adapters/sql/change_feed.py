"""Change feeds: wrap each write to the ledger, and deliver its changes to watchers.

`LocalChangeFeed` is for databases that this process alone writes (SQLite): it determines the changes inside the write and delivers them
after the commit. `postgres_feed.PostgresChangeFeed` is for those that many processes write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.details import DETAILED, detailed_record_of
from sickbay.adapters.sql.fingerprint import fingerprint
from sickbay.adapters.sql.merge import changes_from
from sickbay.adapters.sql.rows import etag
from sickbay.adapters.sql.schema import jobs
from sickbay.adapters.sql.subscribers import JobChange, Subscribers, Watcher
from sickbay.domain.job import JobEvent


class Write(Protocol):
    """A write in progress. Watchers get its changes after the commit, or never."""

    @property
    def connection(self) -> AsyncConnection:
        """The transaction."""

    async def announce(self, events: Sequence[JobEvent]) -> None:
        """Announce events before they are merged."""

    def record(self, changes: Iterable[JobChange]) -> None:
        """Record changes that were made."""

    def watched(self, job_ids: Collection[str]) -> Collection[str]:
        """Those of which a watcher of this process has to get the record of every change."""

    def notify(self, events: Iterable[JobEvent]) -> None:
        """Changes that were made to jobs that are not `watched` here: other processes hear of them."""

    def revoke(self, copies: Iterable[tuple[str, int]]) -> None:
        """Let no run of these jobs (job id, latest generation) begin any more."""

    def request_cancel(self, job_ids: Collection[str]) -> None:
        """Let runs of these jobs be cancelled."""


class ChangeFeed(Protocol):
    """Between the writers of a ledger and its watchers."""

    def write(self, job_ids: Collection[str]) -> AbstractAsyncContextManager[Write]:
        """A transaction that may change these jobs."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[Watcher]:
        """Every change of the job that is applied after entering, in order."""


class _LocalWrite:
    def __init__(self, connection: AsyncConnection, subscribers: Subscribers) -> None:
        self.connection = connection
        self.changes: list[JobChange] = []
        self._subscribers = subscribers

    async def announce(self, events: Sequence[JobEvent]) -> None:
        if watched := self._subscribers.watched({event.job.job_id for event in events}):
            self.changes += await _changes_of(self.connection, watched, events)

    def record(self, changes: Iterable[JobChange]) -> None:
        self.changes += changes

    def watched(self, job_ids: Collection[str]) -> Collection[str]:
        return self._subscribers.watched(job_ids)

    def notify(self, events: Iterable[JobEvent]) -> None:
        """Nothing to do: there are no other processes."""

    def revoke(self, copies: Iterable[tuple[str, int]]) -> None:
        """Nothing to do: there are no other processes."""

    def request_cancel(self, job_ids: Collection[str]) -> None:
        """Nothing to do: there are no other processes."""


class LocalChangeFeed:
    """Implements `ChangeFeed` inside one process."""

    def __init__(self, store: Database, subscribers: Subscribers) -> None:
        self._store = store
        self._subscribers = subscribers

    @asynccontextmanager
    async def write(self, job_ids: Collection[str]) -> AsyncIterator[Write]:
        """A transaction that may change these jobs; their watchers are cut off if its commit is uncertain."""
        with self._subscribers.cut_off_on_failure(job_ids):
            async with self._store.write() as connection:
                write = _LocalWrite(connection, self._subscribers)
                yield write
        self._subscribers.publish(write.changes)

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watcher]:
        """Every change of the job that is applied after entering, in order."""
        async with self._store.pause():  # a running write would commit after this, but has looked up its watchers before
            watcher = self._subscribers.add(job_id)
        try:
            yield watcher
        finally:
            self._subscribers.remove(job_id, watcher)


async def _changes_of(connection: AsyncConnection, watched: Sequence[str], events: Sequence[JobEvent]) -> list[JobChange]:
    """What the events change for watched jobs, by their rows before the merge, in the same transaction."""
    rows = {row.job_id: row for row in await connection.execute(DETAILED.where(jobs.c.job_id.in_(watched)))}
    changes: list[JobChange] = []
    for job_id in watched:
        row = rows.get(job_id)
        of_job = [event for event in events if event.job.job_id == job_id]
        if row and row.lease_until is not None:  # it is being released into the next generation: nothing changes this one any more
            of_job = [event for event in of_job if event.job.generation > row.generation]
        for record, change in changes_from(detailed_record_of(row) if row else None, of_job):
            tag = etag(job_id, record.job.generation, record.job.attempt, record.state, row.revision if row else 0)
            shape = fingerprint(change.message) if change is not None and record.state.in_quarantine else ""
            changes.append((replace(record, etag=tag, fingerprint=shape), change))
    return changes
