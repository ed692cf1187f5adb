"""The change feed of a database that many processes write: each write notifies in its transaction, and each process reads what is watched.

A notification says which jobs changed (`notices.py`); only watched jobs are read, many at once, so a busy ledger costs a process without
watchers next to nothing. A watch keeps the truth that it delivered last and delivers what is later: repeated or late notifications are
harmless, and after a lost connection all watched jobs are simply read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from sickbay.adapters.sql import notices
from sickbay.adapters.sql.change_feed import Write
from sickbay.adapters.sql.chunks import chunks
from sickbay.adapters.sql.database import Database
from sickbay.adapters.sql.details import DETAILED, detailed_record_of
from sickbay.adapters.sql.errors import UNAVAILABLE
from sickbay.adapters.sql.holds import CHANNEL, NOTIFY, RemoteHolds
from sickbay.adapters.sql.notices import Notice
from sickbay.adapters.sql.replay import NOTHING, changes_since, truth_of, truth_of_notice
from sickbay.adapters.sql.rows import AnyRow
from sickbay.adapters.sql.schema import job_changes, jobs
from sickbay.adapters.sql.starts import Starts
from sickbay.adapters.sql.subscribers import JobChange, Subscribers, Watcher
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobRecord
from sickbay.domain.progress import Progress
from sickbay.domain.truth import Truth

__all__ = ["CHANNEL", "PostgresChangeFeed"]

RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 5.0


class _RemoteWrite:
    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.events: list[JobEvent] = []
        self.revoked: list[tuple[str, int]] = []
        self.to_cancel: list[str] = []

    async def announce(self, events: Sequence[JobEvent]) -> None:
        self.events += events

    def record(self, changes: Iterable[JobChange]) -> None:
        """A change of no state is notified as its state: whoever watches the job reads it."""
        told = ((record, (record.state, record.updated_at) if change is None else (change.state, change.at)) for record, change in changes)
        self.events += (JobEvent(record.job, *state) for record, state in told)

    def watched(self, job_ids: Collection[str]) -> Collection[str]:  # noqa: ARG002
        """None: watchers hear of the change as other processes do."""
        return ()

    def notify(self, events: Iterable[JobEvent]) -> None:
        self.events += events

    def revoke(self, copies: Iterable[tuple[str, int]]) -> None:
        self.revoked += copies

    def request_cancel(self, job_ids: Collection[str]) -> None:
        self.to_cancel += job_ids


class _WatchState:
    """What was delivered to a watcher last (`known`, None until its start was read, and what is no state), and the notices since."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.known: Truth | None = None
        self.progress: Progress | None = None
        self.cancel_requested_at = 0
        self.run_at = 0
        self.notices: list[Notice] = []
        self.read_fully = False
        """Whether there may be changes without a notice."""
        self.was_disconnected = False
        """Whether the reason is a lost connection, so that a change may be missed for ever."""

    def advance(self, row: AnyRow, changes: Sequence[AnyRow], known: Truth) -> None:
        """Deliver what is new and has a notice, or cut the watcher off if a change may be missing for ever.

        The row may be ahead of the notices. Its later changes wait: notices arrive in the order of the commits, and one that is still to
        come may have a change that the row no longer has. Notices ahead of the row wait for the next read.
        """
        if self.was_disconnected and row.generation > max(known[0], 0):
            # The history does not keep the successful end of a generation.
            self.watcher.cut(Unavailable("changes may have been missed while the database was away; watch again"))
        current = detailed_record_of(row)
        now = truth_of(current)
        limit = now if self.read_fully else max(map(truth_of_notice, self.notices), default=known)
        for change in changes_since(row, changes, self.notices, known, limit):
            self.watcher.put(change)
            self._tell(change[0])
        self.known = known = max(known, min(now, limit))
        if known == now and self._is_news(current):
            self.watcher.put((current, None))
            self._tell(current)
        self.notices = [notice for notice in self.notices if truth_of_notice(notice) > known]
        self.read_fully = self.was_disconnected = False

    def start(self, record: JobRecord | None) -> None:
        """The watcher knows this record, None if there is none yet."""
        self.known = truth_of(record) if record else NOTHING
        if record is not None:
            self._tell(record)

    def _tell(self, record: JobRecord) -> None:
        self.progress, self.cancel_requested_at, self.run_at = record.progress, record.cancel_requested_at, record.job.run_at

    def _is_news(self, record: JobRecord) -> bool:
        """Whether it says more than what was delivered of the same state."""
        if record.cancel_requested_at != self.cancel_requested_at or record.job.run_at != self.run_at:
            return True
        return record.progress not in {None, self.progress}


class PostgresChangeFeed:
    """Implements `ChangeFeed` for PostgreSQL. Call `on_notification` with each text, and `resync` after a reconnect; `run` delivers."""

    def __init__(self, store: Database, subscribers: Subscribers, starts: Starts, holds: RemoteHolds) -> None:
        self._store = store
        self._subscribers = subscribers
        self._starts = starts
        self._holds = holds
        self._watches: dict[str, list[_WatchState]] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._must_reload = False
        self._is_listening = False

    @asynccontextmanager
    async def write(self, job_ids: Collection[str]) -> AsyncIterator[Write]:  # noqa: ARG002 - the protocol's: the events name them
        """A transaction that may change these jobs; if its commit is uncertain, watchers get a notification if it happened."""
        async with self._store.write() as connection:
            write = _RemoteWrite(connection)
            yield write
            if texts := notices.encode(write.events, write.revoked, write.to_cancel):
                await connection.exec_driver_sql(NOTIFY, (texts,))

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watcher]:
        """Every change of the job that is committed after entering, in order; Unavailable while there are no notifications."""
        if not self._is_listening:
            raise Unavailable(UNAVAILABLE)
        watch = _WatchState(self._subscribers.add(job_id))
        self._watches.setdefault(job_id, []).append(watch)
        try:
            # LISTEN came before this read: what the snapshot does not have yet will be notified.
            rows, _ = await self._store.detached.run(self._rows([job_id]))
            watch.start(detailed_record_of(rows[job_id]) if rows else None)
            self._mark_changed([job_id])
            yield watch.watcher
        finally:
            self._subscribers.remove(job_id, watch.watcher)
            self._remove(job_id, watch)

    def on_notification(self, text: str) -> None:
        """Handle the text of a notification."""
        if text == notices.EVERYTHING:
            self._must_reload = True
            self._mark_all_changed()
            return
        if text.startswith(notices.REVOKED):
            self._starts.revoke(notices.revoked_copies(text))
            return
        if text.startswith(notices.CANCEL_REQUESTED):
            self._starts.request_cancel(notices.jobs_to_cancel(text))
            return
        if self._holds.on_notification(text):
            return
        if self._watches:
            for notice in notices.decode(text, self._watches):
                for watch in self._watches[notice.job_id]:
                    watch.notices.append(notice)
                    self._mark_changed([notice.job_id])

    async def resync(self) -> None:
        """Notifications arrive from now on; catch up with the missed ones."""
        self._store.clear_trouble()
        await self._starts.load(self._store)
        for watches in self._watches.values():
            for watch in watches:
                watch.was_disconnected = True
        self._is_listening = True
        self._holds.set_listening(yes=True)
        self._mark_all_changed()

    def disconnected(self) -> None:
        """The connection was lost: notifications may be missed until `resync`."""
        self._is_listening = False
        self._holds.set_listening(yes=False)

    async def run(self) -> None:
        """Deliver changes to the watchers, until cancelled."""
        pause = RETRY_S
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            must_reload, self._must_reload = self._must_reload, False
            try:
                if must_reload:
                    await self._starts.load(self._store)
                for chunk in chunks(sorted(changed)):
                    await self._deliver(chunk)
            except Exception as error:
                self._must_reload |= must_reload
                self._mark_changed(changed)
                if not isinstance(error, Unavailable):
                    raise
                await asyncio.sleep(pause * SystemRandom().uniform(0.8, 1.2))
                pause = min(2 * pause, LONGEST_RETRY_S)
            else:
                pause = RETRY_S

    async def _deliver(self, job_ids: Sequence[str]) -> None:
        rows, changes = await self._rows(job_ids)
        for job_id, row in rows.items():
            for watch in self._watches.get(job_id, ()):
                if watch.known is not None:
                    watch.advance(row, changes.get(job_id, ()), watch.known)

    async def _rows(self, job_ids: Sequence[str]) -> tuple[Mapping[str, AnyRow], Mapping[str, list[AnyRow]]]:
        async with self._store.snapshot() as connection:
            rows = {row.job_id: row for row in await connection.execute(DETAILED.where(jobs.c.job_id.in_(job_ids)))}
            changes: dict[str, list[AnyRow]] = {}
            for change in await connection.execute(select(job_changes).where(job_changes.c.job_id.in_(job_ids))):
                changes.setdefault(change.job_id, []).append(change)
        return rows, changes

    def _mark_changed(self, job_ids: Iterable[str]) -> None:
        self._changed.update(job_ids)
        self._wake.set()

    def _mark_all_changed(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.read_fully = True
        self._mark_changed(self._watches)

    def _remove(self, job_id: str, watch: _WatchState) -> None:
        watches = self._watches[job_id]
        watches.remove(watch)
        if not watches:
            del self._watches[job_id]
