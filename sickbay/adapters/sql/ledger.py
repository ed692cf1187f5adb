"""The ledger: all five of its ports on one database. `async with open_ledger(url, clock) as ledger`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sickbay.adapters.sql.fence import Cancelled, SqlFence
from sickbay.adapters.sql.hub import Hub
from sickbay.adapters.sql.keys import SqlIdempotencyKeys
from sickbay.adapters.sql.reader import SqlReader
from sickbay.adapters.sql.store import open_store
from sickbay.adapters.sql.wards import SqlWards
from sickbay.adapters.sql.writer import SqlWriter
from sickbay.ports import Clock


@dataclass(frozen=True, slots=True)
class Ledger:
    """One database, five ports: JobReader, LedgerWriter, Wards, Fence and IdempotencyKeys."""

    reader: SqlReader
    writer: SqlWriter
    wards: SqlWards
    fence: SqlFence
    keys: SqlIdempotencyKeys


@asynccontextmanager
async def open_ledger(url: str, clock: Clock) -> AsyncIterator[Ledger]:
    """Open the ledger at `url` (`sqlite:///file`, `sqlite://` for memory, `postgresql://...`), migrate it if it is older, close it after.

    Raises SettingsError if the URL cannot be meant or the database is newer than this program, Unavailable if it does not answer.
    """
    async with open_store(url) as store:
        hub = Hub()
        cancelled = Cancelled(clock)
        await cancelled.load(store)
        try:
            yield Ledger(
                reader=SqlReader(store, hub),
                writer=SqlWriter(store, hub, cancelled),
                wards=SqlWards(store, hub, clock),
                fence=SqlFence(store, cancelled, clock),
                keys=SqlIdempotencyKeys(store, clock),
            )
        finally:
            hub.close()
