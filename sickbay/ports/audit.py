"""The audit log in the ledger, with the rules of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sickbay.domain.audit import AuditEntry, AuditQuery
from sickbay.domain.queries import Page


class AuditStore(Protocol):
    """Keeps entries. Nothing but `prune` deletes one, and one that has a result never changes."""

    async def record(self, entries: Sequence[AuditEntry]) -> None:
        """Store each, or give a STARTED one its result (`audit.merged`): repeats, reordering and several writers are harmless.

        Unstorable if the database rejects a value; nothing was stored then.
        """

    async def find_entries(self, query: AuditQuery, limit: int, cursor: str) -> Page[AuditEntry]:
        """Latest first, unless the query says otherwise; InvalidArgument(INVALID_PAGE_TOKEN) if the cursor is not from this list."""

    async def prune(self, now: int, keep_ms: int) -> int:
        """Delete entries that are older than `keep_ms` at `now`, in small transactions; return how many."""
