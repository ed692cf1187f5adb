"""The ledger: all five of its ports on one database. `async with open_ledger(url, clock) as ledger`.

On PostgreSQL any number of processes share one ledger. Who writes what (`roles.sql` grants just that): jobapi reads jobs and writes
`idempotency_keys`; a worker reads jobs and writes `suspects`; the control plane owns the tables, makes them, and writes them all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sickbay.adapters.sql.dialects import place
from sickbay.adapters.sql.feed import Feed, LocalFeed
from sickbay.adapters.sql.fence import Cancelled, SqlFence
from sickbay.adapters.sql.hub import Hub
from sickbay.adapters.sql.keys import SqlIdempotencyKeys
from sickbay.adapters.sql.link import AlwaysUp, Link, PostgresLink
from sickbay.adapters.sql.postgres import Server
from sickbay.adapters.sql.reader import SqlReader
from sickbay.adapters.sql.remote import RemoteFeed
from sickbay.adapters.sql.store import Store, open_store
from sickbay.adapters.sql.wards import SqlWards
from sickbay.adapters.sql.writer import SqlWriter
from sickbay.ports import Clock
from sickbay.tasks import background


@dataclass(frozen=True, slots=True)
class Ledger:
    """One database, five ports: JobReader, LedgerWriter, Wards, Fence and IdempotencyKeys; and the link to it."""

    reader: SqlReader
    writer: SqlWriter
    wards: SqlWards
    fence: SqlFence
    keys: SqlIdempotencyKeys
    link: Link


@asynccontextmanager
async def open_ledger(url: str, clock: Clock, *, migrates: bool = True, patient: bool = False) -> AsyncIterator[Ledger]:
    """Open the ledger at `url` (`sqlite:///file`, `sqlite://` for memory, `postgresql://...`), close it after.

    `migrates`: make the tables or bring them up to date; without it they are waited for, and SELECT on them is enough to open.
    `patient`: open although PostgreSQL does not answer; everything raises Unavailable until it does (`link.wait_up`).
    Raises SettingsError if the URL cannot be meant or the database is newer than this program, else Unavailable if it does not answer.
    """
    where = place(url)
    hub = Hub()
    cancelled = Cancelled(clock)
    async with open_store(where) as store:
        try:
            if where.server is None:
                await store.prepare(migrates=True)
                await cancelled.load(store)
                yield _ledger(store, LocalFeed(store, hub), cancelled, clock, AlwaysUp())
            else:
                feed = RemoteFeed(store, hub, cancelled)
                async with _linked(where.server, store, feed, migrates=migrates, patient=patient) as link:
                    yield _ledger(store, feed, cancelled, clock, link)
        finally:
            hub.close()


def _ledger(store: Store, feed: Feed, cancelled: Cancelled, clock: Clock, link: Link) -> Ledger:
    return Ledger(
        reader=SqlReader(store, feed),
        writer=SqlWriter(store, feed, cancelled),
        wards=SqlWards(store, feed, clock),
        fence=SqlFence(store, cancelled, clock),
        keys=SqlIdempotencyKeys(store, clock),
        link=link,
    )


@asynccontextmanager
async def _linked(server: Server, store: Store, feed: RemoteFeed, *, migrates: bool, patient: bool) -> AsyncIterator[Link]:
    link = PostgresLink(server, feed, lambda: store.prepare(migrates=migrates))
    if not patient:
        await link.connect()
    try:
        async with background(link.run(), feed.run()):
            yield link
    finally:
        await link.close()
