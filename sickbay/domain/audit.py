"""Entries of the audit log: who did what, and what was refused. Pure; times are milliseconds since the epoch.

An entry is written twice: as STARTED before its action, and again with its result. The two have the same id, and the one with a result
counts, in whatever order they arrive. An entry with a result never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

from sickbay.domain.access import Tenants
from sickbay.domain.storable import LAST_MS, MAX_COUNT, storable

STARTED: Final = "STARTED"
OK: Final = "OK"
REFUSED: Final = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED"})
"""The results of calls that access control has refused."""

MAX_NAME_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 500
_LONG: Final = frozenset({"message", "note", "request"})


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action, or one refused call; `count` of them if it is a summary. Texts are empty where nothing is known.

    `principal`, `kind` and `credential` are those of access control; `claimed_actor` and `note` are what the request says.
    `result` is STARTED, OK or a gRPC status code, `reason` and `message` are those of the error. `before` and `after` are short states.
    """

    entry_id: str
    at: int
    action: str
    result: str = STARTED
    ended_at: int = 0
    principal: str = ""
    kind: str = ""
    credential: str = ""
    claimed_actor: str = ""
    note: str = ""
    target_kind: str = ""
    target: str = ""
    tenant: str = ""
    source: str = ""
    door: str = ""
    reason: str = ""
    message: str = ""
    before: str = ""
    after: str = ""
    request: str = ""
    count: int = 1

    @property
    def is_final(self) -> bool:
        """Whether the result is known."""
        return self.result != STARTED


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries to list; empty fields do not filter.

    `visible` are the tenants that the caller has, None for all: with some, entries without a tenant are left out. `since` is inclusive,
    `until` is not, both in ms.
    """

    principal: str = ""
    action: str = ""
    target: str = ""
    tenant: str = ""
    result: str = ""
    refused: bool = False
    since: int | None = None
    until: int | None = None
    oldest_first: bool = False
    visible: Tenants = None


def merged(known: AuditEntry | None, new: AuditEntry) -> AuditEntry:
    """What is kept of two entries with the same id: the first one with a result."""
    return new if known is None or (not known.is_final and new.is_final) else known


def bounded(entry: AuditEntry) -> AuditEntry:
    """The entry as every database can store it: texts cut to their limits, without NUL."""
    texts = {one.name: value for one in fields(entry) if isinstance(value := getattr(entry, one.name), str)}
    cut = {name: storable(text, MAX_TEXT_CHARS if name in _LONG else MAX_NAME_CHARS) for name, text in texts.items()}
    return replace(
        entry,
        **cut,
        at=min(max(entry.at, 0), LAST_MS),
        ended_at=min(max(entry.ended_at, 0), LAST_MS),
        count=min(max(entry.count, 1), MAX_COUNT),
    )
