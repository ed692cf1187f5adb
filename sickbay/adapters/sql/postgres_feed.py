"""The feed of a database that many processes write: each write notifies in its own transaction, and each process reads what is watched.

A notification says which jobs changed (`notices.py`); only for those that somebody here watches is anything read, many jobs at once, so
a busy ledger costs a process without watchers next to nothing. A watcher knows the truth it was told last and gets what goes beyond it:
repeated or late notifications are harmless, and after a lost connection everything watched is simply read again.
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
from sickbay.adapters.sql.errors import SENTENCE
from sickbay.adapters.sql.holds import CHANNEL, NOTIFY, RemoteHolds
from sickbay.adapters.sql.notices import Notice
from sickbay.adapters.sql.replay import NOTHING, retold, truth_in, truth_of
from sickbay.adapters.sql.rows import WHOLE, AnyRow, record_of
from sickbay.adapters.sql.schema import job_changes, jobs
from sickbay.adapters.sql.starts import Starts
from sickbay.adapters.sql.subscribers import JobChange, Subscribers, Watcher
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent
from sickbay.domain.truth import Truth

__all__ = ["CHANNEL", "PostgresChangeFeed"]

RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 5.0


class _RemoteWrite:
    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.events: list[JobEvent] = []
        self.called_off: list[tuple[str, int]] = []

    async def tell_of(self, events: Sequence[JobEvent]) -> None:
        self.events += events

    def tell(self, news: Iterable[JobChange]) -> None:
        self.events += (JobEvent(record.job, change.state, change.at) for record, change in news)

    def call_off(self, copies: Iterable[tuple[str, int]]) -> None:
        self.called_off += copies


class _Reader:
    """What a watcher was told last (None until it is known where it begins), and what was noticed since."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.known: Truth | None = None
        self.noticed: list[Notice] = []
        self.unheard = False
        """Whether there may be news without a notice."""
        self.gap = False
        """Whether that is because the connection was lost, so that it may never be known."""

    def advance(self, row: AnyRow, changes: Sequence[AnyRow], known: Truth) -> None:
        """Tell what is new and was noticed, or cut the watcher off where something may be missing for ever.

        The row may be ahead of the notices. What it says beyond them waits: they come in the order of the commits, and one that is still
        to come may tell of a change that the row has forgotten. Notices ahead of the row wait for the next reading.
        """
        if self.gap and row.generation > max(known[0], 0):
            # History does not keep how a generation ended well.
            self.watcher.cut(Unavailable("changes may have been missed while the database was away; watch again"))
        now = truth_of(record_of(row))
        limit = now if self.unheard else max(map(truth_in, self.noticed), default=known)
        for news in retold(row, changes, self.noticed, known, limit):
            self.watcher.put(news)
        self.known = known = max(known, min(now, limit))
        self.noticed = [notice for notice in self.noticed if truth_in(notice) > known]
        self.unheard = self.gap = False


class PostgresChangeFeed:
    """Implements `Feed` for PostgreSQL. `hear` takes the texts of notifications, `resync` follows a time without them, `run` tells."""

    def __init__(self, store: Database, hub: Subscribers, starts: Starts, holds: RemoteHolds) -> None:
        self._store = store
        self._hub = hub
        self._starts = starts
        self._holds = holds
        self._readers: dict[str, list[_Reader]] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._stale = False
        self._listens = False

    @asynccontextmanager
    async def write(self, job_ids: Collection[str]) -> AsyncIterator[Write]:  # noqa: ARG002 - the port's: the events name them
        """A transaction that may change these jobs; if nobody can say whether it did, a notification does, or there is none."""
        async with self._store.write() as connection:
            write = _RemoteWrite(connection)
            yield write
            if texts := notices.written(write.events, write.called_off):
                await connection.exec_driver_sql(NOTIFY, (texts,))

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watcher]:
        """Every change of the job that is committed after the entering, in order; Unavailable while notifications cannot be heard."""
        if not self._listens:
            raise Unavailable(SENTENCE)
        reader = _Reader(self._hub.add(job_id))
        self._readers.setdefault(job_id, []).append(reader)
        try:
            # Listening came before reading: what this snapshot does not have yet will be notified.
            rows, _ = await self._store.detached.run(self._rows([job_id]))
            reader.known = truth_of(record_of(rows[job_id])) if rows else NOTHING
            self._look_at([job_id])
            yield reader.watcher
        finally:
            self._hub.remove(job_id, reader.watcher)
            self._forget(job_id, reader)

    def hear(self, text: str) -> None:
        """Take the text of a notification."""
        if text == notices.EVERYTHING:
            self._stale = True
            self._look_at_all()
            return
        if text.startswith(notices.CALLED_OFF):
            self._starts.add(notices.called_off(text))
            return
        if self._holds.hear(text):
            return
        if self._readers:
            for notice in notices.read(text, self._readers):
                for reader in self._readers[notice.job_id]:
                    reader.noticed.append(notice)
                    self._look_at([notice.job_id])

    async def resync(self) -> None:
        """Notifications are heard from now on; catch up with those that were not."""
        self._store.forgive()
        await self._starts.load(self._store)
        for readers in self._readers.values():
            for reader in readers:
                reader.gap = True
        self._listens = True
        self._holds.listens(yes=True)
        self._look_at_all()

    def deafened(self) -> None:
        """Notifications may be lost from now on, until `resync`."""
        self._listens = False
        self._holds.listens(yes=False)

    async def run(self) -> None:
        """Tell the watchers, until cancelled."""
        pause = RETRY_S
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            stale, self._stale = self._stale, False
            try:
                if stale:
                    await self._starts.load(self._store)
                for chunk in chunks(sorted(changed)):
                    await self._tell(chunk)
            except Exception as error:
                self._stale |= stale
                self._look_at(changed)
                if not isinstance(error, Unavailable):
                    raise
                await asyncio.sleep(pause * SystemRandom().uniform(0.8, 1.2))
                pause = min(2 * pause, LONGEST_RETRY_S)
            else:
                pause = RETRY_S

    async def _tell(self, job_ids: Sequence[str]) -> None:
        rows, changes = await self._rows(job_ids)
        for job_id, row in rows.items():
            for reader in self._readers.get(job_id, ()):
                if reader.known is not None:
                    reader.advance(row, changes.get(job_id, ()), reader.known)

    async def _rows(self, job_ids: Sequence[str]) -> tuple[Mapping[str, AnyRow], Mapping[str, list[AnyRow]]]:
        async with self._store.snapshot() as connection:
            rows = {row.job_id: row for row in await connection.execute(select(*WHOLE).where(jobs.c.job_id.in_(job_ids)))}
            changes: dict[str, list[AnyRow]] = {}
            for change in await connection.execute(select(job_changes).where(job_changes.c.job_id.in_(job_ids))):
                changes.setdefault(change.job_id, []).append(change)
        return rows, changes

    def _look_at(self, job_ids: Iterable[str]) -> None:
        self._changed.update(job_ids)
        self._wake.set()

    def _look_at_all(self) -> None:
        for readers in self._readers.values():
            for reader in readers:
                reader.unheard = True
        self._look_at(self._readers)

    def _forget(self, job_id: str, reader: _Reader) -> None:
        readers = self._readers[job_id]
        readers.remove(reader)
        if not readers:
            del self._readers[job_id]
