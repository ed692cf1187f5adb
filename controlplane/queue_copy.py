"""The copies of set-aside jobs in `jobs.quarantine`, as the sweep looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.isolation import undecodable
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
    """A message of the quarantine in our hands."""

    delivery: Delivery
    event: JobEvent
    body: bytes
    is_live: bool | None = None

    @classmethod
    def read(cls, delivery: Delivery, now: int) -> QueueCopy:
        """The event, and how its copy is kept: a message that nobody could read becomes one that everybody can, under one id for good."""
        try:
            return cls(delivery, decode_events(delivery.body, now)[0], delivery.body)
        except (Undecodable, IndexError) as error:
            why = explain(str(error), delivery.body, delivery.encoding)
            event = undecodable(delivery.body, delivery.message_id, why, now)
            return cls(delivery, event, encode_event(event))

    @property
    def identity(self) -> tuple[str, int, int]:
        """Two copies with the same one are the same copy, published twice."""
        return identity_of(self.event)

    def becomes(self, event: JobEvent) -> None:
        """Keep another event instead, if it is another."""
        if event is not self.event:
            self.event = event
            self.body = encode_event(event)


def identity_of(event: JobEvent) -> tuple[str, int, int]:
    """See `QueueCopy.identity`."""
    return (event.job.job_id, event.job.generation, event.job.attempt)


def mark_of(delivery: Delivery, present: int) -> int:
    """The round that moved this copy; 0 for one that was never moved, or that a stranger has marked."""
    mark = delivery.headers.get(MARK, "")
    number = int(mark) if len(mark) <= _MARK_DIGITS and mark.isdecimal() else 0
    return number if number <= present + AHEAD_MS else 0
