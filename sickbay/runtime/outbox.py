"""Opens the outbox of another program's database for the command."""

from __future__ import annotations

from typing import Final

from sickbay.adapters.sql.guest import GuestDatabase, guest_database
from sickbay.domain.errors import MissingSetting
from sickbay.outbox.store import OutboxStore

VARIABLE: Final = "SICKBAY_OUTBOX_DATABASE_URL"


def open_database(url: str) -> GuestDatabase:
    """The engine for the database with the outbox, to be entered; SettingsError if the URL cannot be used."""
    return guest_database(url, VARIABLE)


async def check_table(store: OutboxStore) -> None:
    """MissingSetting if the table is missing."""
    if not await store.exists():
        raise MissingSetting("the database has no table sickbay_outbox (in this schema): create it, `sickbay outbox ddl` prints how")
