"""How many bytes of messages a consumer holds, and how many messages it may therefore ask RabbitMQ for. Pure.

RabbitMQ knows no bound in bytes (quorum queues ignore `prefetch_size`), and sends at once as many messages as the prefetch allows. So the
prefetch follows the sizes seen: it begins with what surely fits, grows while messages are small, and falls to one message as soon as more
is held than the budget. What a burst brings beyond it is not kept but given back.
"""

from __future__ import annotations

from typing import Final

from sickbay.ports import PREFETCH_BYTES

_LARGE_BYTES: Final = 1024 * 1024
"""What a message is taken for before any was seen: the largest job that the Job API accepts."""
_MEMORY: Final = 16
"""The typical size is an average over about so many messages."""
_STEP: Final = 8
"""A change of the prefetch is three questions to RabbitMQ: it is not made for less than twice as many, or eight."""


class Budget:
    """One per consumer, for all its sessions: a handler keeps its message beyond the session that brought it."""

    def __init__(self, prefetch: int, most: int = PREFETCH_BYTES) -> None:
        """At most `prefetch` messages, and `most` bytes; a single message may be larger."""
        self._most = most
        self._prefetch = prefetch
        self._typical = float(_LARGE_BYTES)
        self._seen = 1
        self.held = 0
        """Bytes of messages received and not settled."""
        self._count = 0
        self._out = 0

    def saw(self, size: int) -> None:
        """A message of this size came, whether it was kept or not."""
        self._seen = min(self._seen + 1, _MEMORY)
        self._typical += (size - self._typical) / self._seen

    def took(self, size: int) -> None:
        """A message is held."""
        self.held += size
        self._count += 1

    def gave(self, size: int, *, was_out: bool) -> None:
        """A message is held no more; `was_out`: it had been handed out."""
        self.held -= size
        self._count -= 1
        if was_out:
            self._out -= size

    def has_room(self, size: int) -> bool:
        """Whether one more can be held; the only one always can."""
        return self._count == 0 or self.held + size <= self._most

    def may_hand_out(self, size: int) -> bool:
        """Whether one more may be handed out beside what is in somebody's hands; alone every one may."""
        return self._out == 0 or self._out + size <= self._most

    def handed_out(self, size: int) -> None:
        """A message that is held is in somebody's hands now."""
        self._out += size

    def took_back(self, size: int) -> None:
        """A message that was handed out is in nobody's hands again."""
        self._out -= size

    def fitting(self, held: int | None = None) -> int:
        """How many more messages of the typical size fit beside what is held."""
        room = self._most * 3 // 4 - (self.held if held is None else held)
        return max(1, min(self._prefetch, int(room / max(1.0, self._typical))))

    def better(self, present: int) -> int | None:
        """The prefetch that should replace the present one; None if it is well as it is."""
        if self.held > self._most:
            return 1 if present > 1 else None
        if present >= self._prefetch:
            return None
        fitting = self.fitting()
        is_worthwhile = fitting >= max(2 * present, min(_STEP, self.fitting(0))) or fitting == self._prefetch
        return fitting if is_worthwhile and fitting > present else None
