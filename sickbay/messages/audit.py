"""The message with entries of the audit log: `{"audit": [...]}` on `jobs.ledger`, beside the events of jobs.

A control plane of before does not know it, and keeps its bytes as an UNDECODABLE job in quarantine: nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from sickbay.domain.audit import AuditEntry, bounded
from sickbay.domain.storable import not_ahead
from sickbay.messages.codec import MAX_ID_CHARS, Undecodable
from sickbay.ports import Message

KEY: Final = "job.audit"
"""Its routing key: one of those that reach the ledger alone."""
MAX_ENTRIES: Final = 100
"""In one message."""
_MARK: Final = b'{"audit":'


class _Body(msgspec.Struct, frozen=True):
    audit: tuple[AuditEntry, ...]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Body)


def audit_message(entries: Sequence[AuditEntry]) -> Message:
    """The message with these entries."""
    return Message(KEY, _encoder.encode(_Body(tuple(entries))))


def has_entries(body: bytes) -> bool:
    """Whether a message has entries of the audit log, by its first bytes."""
    return body.startswith(_MARK)


def decode_entries(body: bytes, now: int) -> Sequence[AuditEntry]:
    """The entries, with texts as databases take them; times are cut to a day after `now` (ms). Raises Undecodable."""
    try:
        found = _decoder.decode(body).audit
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"the message has no entries of the audit log: {error}") from error
    if any(not entry.entry_id or len(entry.entry_id) > MAX_ID_CHARS for entry in found):
        raise Undecodable(f"an entry of the audit log has an id of 1 to {MAX_ID_CHARS} characters")
    return [bounded(replace(one, at=not_ahead(one.at, now), ended_at=not_ahead(one.ended_at, now))) for one in found]
