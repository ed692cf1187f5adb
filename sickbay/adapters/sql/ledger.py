"""The ledger: all of its ports on one database. `async with open_ledger(url, clock) as ledger`.

On PostgreSQL any number of processes share one ledger. Their access (`grants.py` grants just that): jobapi reads jobs and writes
`idempotency_keys`; a worker reads jobs and writes `suspects`; the control plane owns the tables, creates them, and writes them all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sickbay.adapters.files import make_private, opening
from sickbay.adapters.sql.audit import SqlAudit
from sickbay.adapters.sql.change_feed import ChangeFeed, LocalChangeFeed
from sickbay.adapters.sql.database import Database, open_store
from sickbay.adapters.sql.duplicate_guard import SqlDuplicateGuard
from sickbay.adapters.sql.engines import parse_url
from sickbay.adapters.sql.errors import sqlite_error
from sickbay.adapters.sql.holds import LocalHolds, RemoteHolds
from sickbay.adapters.sql.incident_notices import SqlIncidentNotices
from sickbay.adapters.sql.incidents import SqlIncidents
from sickbay.adapters.sql.keys import SqlIdempotencyKeys
from sickbay.adapters.sql.listener import AlwaysUp, PostgresListener, SessionSource
from sickbay.adapters.sql.lost import SqlLost
from sickbay.adapters.sql.pool import Pool
from sickbay.adapters.sql.postgres import Server
from sickbay.adapters.sql.postgres_feed import PostgresChangeFeed
from sickbay.adapters.sql.quarantine_store import SqlQuarantineStore
from sickbay.adapters.sql.reader import SqlReader
from sickbay.adapters.sql.schedule_counts import SqlScheduleStatistics
from sickbay.adapters.sql.scheduled_jobs import SqlScheduledJobs
from sickbay.adapters.sql.schedules import SqlSchedules
from sickbay.adapters.sql.starts import Starts
from sickbay.adapters.sql.subscribers import Subscribers
from sickbay.adapters.sql.waiting import SqlWaitingCounts
from sickbay.adapters.sql.write_check import WriteCheck
from sickbay.adapters.sql.writer import SqlWriter
from sickbay.concurrency.tasks import background
from sickbay.domain.errors import Unavailable
from sickbay.domain.incident import IncidentRules
from sickbay.ports import Clock
from sickbay.ports.lost import Holds


@dataclass(frozen=True, slots=True)
class Ledger:
    """One database by its ports: `sickbay.ports` has those of jobs, modules of it such as `ports.lost` the others; and its link."""

    reader: SqlReader
    writer: SqlWriter
    quarantine: SqlQuarantineStore
    scheduled_jobs: SqlScheduledJobs
    schedules: SqlSchedules
    schedule_statistics: SqlScheduleStatistics
    lost: SqlLost
    duplicate_guard: SqlDuplicateGuard
    holds: Holds
    keys: SqlIdempotencyKeys
    incidents: SqlIncidents
    notices: SqlIncidentNotices
    waiting: SqlWaitingCounts
    audit: SqlAudit
    link: SessionSource
    store: Database
    write_check: WriteCheck
    """It runs only where the tables are owned (`migrates`), and not for a database in memory."""

    @property
    def trouble(self) -> str:
        """Why it cannot be used, or only in part, without secrets; "" if it can, as far as known without a call."""
        return self.link.trouble or self.store.trouble or self.write_check.trouble


@asynccontextmanager
async def open_ledger(
    url: str | Path,
    clock: Clock,
    *,
    migrates: bool = True,
    patient: bool = False,
    own_time: bool = False,
    incident_rules: IncidentRules = IncidentRules(),  # noqa: B008 - frozen
) -> AsyncIterator[Ledger]:
    """Open the ledger at `url` (`sqlite:///file` or a path, `sqlite://` for memory, `postgresql://...`), close it after.

    `migrates`: create the tables or bring them up to date; without it they are waited for, and SELECT on them is enough to open.
    `patient`: open even if PostgreSQL does not answer; everything raises Unavailable until it does (`link.wait_up`).
    `own_time`: leases, idempotency keys and retention use one clock, independent of the machines' clocks: the server's on PostgreSQL, a
    monotonic one on SQLite. Without it (tests) they use `clock`.
    `incident_rules`: how incidents are kept; those of one database must be the same in all control planes.
    Raises SettingsError if the URL is invalid, the database is newer than this program or its file cannot be used, else Unavailable if it
    does not answer.
    """
    where = parse_url(url)
    subscribers = Subscribers()
    starts = Starts(clock)
    async with open_store(where, clock, own_time=own_time) as store:
        try:
            if where.server is None or store.pool is None:
                with _opening(where.file):
                    await store.prepare(migrates=True)
                    await starts.load(store)
                ledger = _ledger(store, LocalChangeFeed(store, subscribers), starts, LocalHolds(starts), clock, AlwaysUp(), incident_rules)
                async with background(*[ledger.write_check.run] if where.file else []):
                    yield ledger
            else:
                holds = RemoteHolds(store, starts)
                prepare = partial(store.prepare, migrates=migrates)
                feed = PostgresChangeFeed(store, subscribers, starts, holds)
                async with (
                    _open_listener(where.server, store.pool, feed, prepare, patient=patient) as link,
                    background(holds.run),
                ):
                    ledger = _ledger(store, feed, starts, holds, clock, link, incident_rules)
                    async with background(*[ledger.write_check.run] if migrates else []):
                        yield ledger
        finally:
            subscribers.close()


@contextmanager
def _opening(file: Path | None) -> Iterator[None]:
    """Create a private file if missing, and translate errors while it is opened into SettingsError."""
    if file is None:
        yield
        return
    with opening(file):
        make_private(file)
        try:
            yield
        except Unavailable as error:
            raise (sqlite_error(error) or error) from error


def _ledger(  # noqa: PLR0917 - all parts
    store: Database, feed: ChangeFeed, starts: Starts, holds: Holds, clock: Clock, link: SessionSource, rules: IncidentRules
) -> Ledger:
    return Ledger(
        reader=SqlReader(store, feed),
        writer=SqlWriter(store, feed, starts),
        quarantine=SqlQuarantineStore(store, feed, starts, clock),
        scheduled_jobs=SqlScheduledJobs(store, feed, starts, clock),
        schedules=SqlSchedules(store, feed),
        schedule_statistics=SqlScheduleStatistics(store),
        lost=SqlLost(store, feed, starts, clock),
        duplicate_guard=SqlDuplicateGuard(store, starts, clock),
        holds=holds,
        keys=SqlIdempotencyKeys(store),
        incidents=SqlIncidents(store, clock, rules),
        notices=SqlIncidentNotices(store),
        waiting=SqlWaitingCounts(store),
        audit=SqlAudit(store),
        link=link,
        store=store,
        write_check=WriteCheck(store, lambda: link.is_up),
    )


@asynccontextmanager
async def _open_listener(
    server: Server, pool: Pool, feed: PostgresChangeFeed, prepare: Callable[[], Awaitable[None]], *, patient: bool
) -> AsyncIterator[SessionSource]:
    link = PostgresListener(server, pool, feed, prepare)
    if not patient:
        await link.connect()
    try:
        async with background(link.run, feed.run):
            yield link
    finally:
        await link.close()
