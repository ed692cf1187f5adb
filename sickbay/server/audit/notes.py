"""What a servicer knows about an action for the audit log: `notes_of(context).before = "CLOSED"`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sickbay.server.access.caller import CallContext, Caller


@dataclass(slots=True)
class Notes:
    """The state of the target before the action, its tenant, and its state after it if the reply does not say it; empty if not known."""

    before: str = ""
    after: str = ""
    tenant: str = ""


class AuditedContext(CallContext):
    """The context of an action, which has a place for notes."""

    __slots__ = ("notes",)

    def __init__(self, inner: Any, caller: Caller) -> None:
        super().__init__(inner, caller)
        self.notes = Notes()


def notes_of(context: Any) -> Notes:
    """Where to note it; nobody reads that if the call is not audited."""
    found = getattr(context, "notes", None)
    return found if isinstance(found, Notes) else Notes()
