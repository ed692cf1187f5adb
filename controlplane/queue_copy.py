"""The copies of quarantined jobs in `jobs.quarantine`, as the reconciler processes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.isolation import foreign_event, undecodable_event
from sickbay.domain.encodings import explain
from sickbay.domain.job import JobEvent
from sickbay.domain.storable import AHEAD_MS
from sickbay.messages.codec import Undecodable, decode_events, encode_event
from sickbay.ports import Delivery

MARK: Final = "swept"
"""The header with the number of the round that moved a copy."""
_MARK_DIGITS: Final = 18


@dataclass(slots=True, eq=False)
class QueueCopy:
    """A message that was consumed from `jobs.quarantine`."""

    delivery: Delivery
    event: JobEvent
    body: bytes
    is_live: bool | None = None

    @classmethod
    def read(cls, delivery: Delivery, now: int) -> QueueCopy:
        """Decode a message; an undecodable one is replaced by a readable event, always under the same id."""
        if delivery.is_foreign:
            event = foreign_event(delivery.body, now)
            return cls(delivery, event, encode_event(event))
        try:
            return cls(delivery, decode_events(delivery.body, now)[0], delivery.body)
        except (Undecodable, IndexError) as error:
            why = explain(str(error), delivery.body, delivery.encoding)
            event = undecodable_event(delivery.body, delivery.message_id, why, now)
            return cls(delivery, event, encode_event(event))

    @property
    def identity(self) -> tuple[str, int, int]:
        """Two copies with the same identity are the same copy, published twice."""
        return identity_of(self.event)

    def becomes(self, event: JobEvent) -> None:
        """Keep this event instead, if it is a different one."""
        if event is not self.event:
            self.event = event
            self.body = encode_event(event)


def identity_of(event: JobEvent) -> tuple[str, int, int]:
    """See `QueueCopy.identity`."""
    return (event.job.job_id, event.job.generation, event.job.attempt)


def mark_of(delivery: Delivery, present: int) -> int:
    """The round that moved this copy; 0 if it was never moved, or if the mark is not one of ours."""
    mark = delivery.headers.get(MARK, "")
    number = int(mark) if len(mark) <= _MARK_DIGITS and mark.isdecimal() else 0
    return number if number <= present + AHEAD_MS else 0
