"""One queue of the embedded broker, as far as it is in memory: where it stands, who waits, and what the next transaction must do.

Messages are handed out strictly by rising id, so one number per queue, the position, tells after a crash who has been handed out: every
stored message up to it (redelivered), and none behind it. That costs one small update per transaction, not a row per message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush, nsmallest
from typing import Final, NamedTuple

from sickbay.adapters.embedded.queue_file import QueueFile, Row
from sickbay.ports import Queue

_FIRST_CHUNK: Final = 16
_CHUNK: Final = 256
_SMALL_BYTES: Final = 64 * 1024
_ENOUGH_BYTES: Final = 8 * 1024 * 1024
"""One hand-out ends when it holds this much, however many messages were asked for."""


class Dequeued(NamedTuple):
    """A message taken from its queue, and whether somebody may have had it before."""

    row: Row
    redelivered: bool


@dataclass(slots=True, eq=False)
class PendingGet:
    """A `get` that waits for up to `limit` messages, and up to so many bytes; the first may be larger."""

    limit: int
    answer: asyncio.Future[list[Dequeued]]
    most_bytes: int = _ENOUGH_BYTES


class Fulfilled(NamedTuple):
    """A claim and what it gets, as soon as that is durable."""

    lane: QueueState
    claim: PendingGet
    taken: list[Dequeued]

    def take_back(self) -> None:
        """The claim's owner is gone and has seen nothing: the messages wait again, with the marks they had."""
        self.lane.take_back(self.taken)


class _Memory(NamedTuple):
    position: int
    waiting: int
    returned: list[tuple[int, bool]]
    claims: deque[PendingGet]


@dataclass(slots=True, eq=False)
class QueueState:
    """One queue. `inbox`, `acked` and `claims` are wishes; `work` fulfils them inside a transaction, then `done` or `undo` follows."""

    queue: Queue
    store: QueueFile
    position: int = 0
    waiting: int = 0
    returned: list[tuple[int, bool]] = field(default_factory=list)
    """Heap of the messages given back, with their marks: all at or before the position."""
    inbox: list[Row] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    claims: deque[PendingGet] = field(default_factory=deque)
    _before: _Memory | None = None

    @classmethod
    def load(cls, queue: Queue, store: QueueFile) -> QueueState:
        """The queue as the last process left it: what was in its hands has been given back, marked."""
        position = store.position(queue)
        returned = [(number, True) for number in store.ids_until(queue, position)]
        return cls(queue, store, position, store.count(queue), returned)

    @property
    def has_work(self) -> bool:
        """Whether a transaction would change anything."""
        return bool(self.inbox or self.acked or (self.claims and self.waiting))

    def give_back(self, number: int, *, redelivered: bool) -> None:
        """Put a message back to where it was. Needs no transaction: it never left the table, and the position keeps the mark."""
        heappush(self.returned, (number, redelivered))
        self.waiting += 1

    def take_back(self, taken: list[Dequeued]) -> None:
        """Put messages back that nobody has seen, with the marks they had."""
        for message in taken:
            self.give_back(message.row.id, redelivered=message.redelivered)

    def begin(self) -> None:
        """Remember the state for `undo`."""
        self._before = _Memory(self.position, self.waiting, self.returned.copy(), self.claims.copy())

    def work(self) -> list[Fulfilled]:
        """Inside a transaction: destroy, append, then serve the waiting claims, also with what has just come."""
        if self.acked:
            self.store.delete(self.queue, self.acked)
        self.append(self.inbox)
        position = self.position
        served = []
        while self.waiting and self.claims:
            claim = self.claims.popleft()
            if not claim.answer.done():
                served.append(Fulfilled(self, claim, self._take(claim.limit, min(_ENOUGH_BYTES, claim.most_bytes))))
        if self.position != position:
            self.store.move_position(self.queue, self.position)
        return served

    def append(self, rows: list[Row]) -> None:
        """Inside a transaction: store messages at the tail."""
        if rows:
            self.store.insert(self.queue, rows)
            self.waiting += len(rows)

    def remove(self, numbers: list[int]) -> None:
        """Inside a transaction: destroy messages that nobody has taken."""
        self.store.delete(self.queue, numbers)
        self.waiting -= len(numbers)

    def done(self) -> None:
        """The transaction is committed."""
        self._before = None
        self.inbox.clear()
        self.acked.clear()

    def undo(self) -> list[PendingGet]:
        """The transaction failed. Acks stay for the next one, the inbox is lost; return the claims that could have been served."""
        if self._before is not None:
            self.position, self.waiting, self.returned, self.claims = self._before
            self._before = None
        self.inbox.clear()
        if not self.waiting:
            return []
        failed = list(self.claims)
        self.claims.clear()
        return failed

    def _take(self, limit: int, most_bytes: int) -> list[Dequeued]:
        """Take from the head: at least one, and fewer than `limit` when they are large."""
        taken: list[Dequeued] = []
        left = most_bytes
        while len(taken) < min(limit, self.waiting) and (left > 0 or not taken):
            # The first few tell how large they are, so that a read never holds much more than is handed out.
            chunk = _CHUNK if taken and most_bytes - left < _SMALL_BYTES else _FIRST_CHUNK
            more = self._next(min(chunk, limit - len(taken)), left, is_first=not taken)
            if not more:
                break
            taken += more
            left -= sum(len(message.row.body) for message in more)
        self.waiting -= len(taken)
        return taken

    def _next(self, limit: int, most_bytes: int, *, is_first: bool) -> list[Dequeued]:
        """The next messages that fit; the first of a hand-out always does."""
        if self.returned:
            marks = dict(nsmallest(limit, self.returned))
            rows = self.store.among(self.queue, list(marks), most_bytes, is_first=is_first)
            seen = rows[-1].id if rows else max(marks) if is_first else -1  # nothing at all: somebody has deleted them
            while self.returned and self.returned[0][0] <= seen:
                heappop(self.returned)
            return [Dequeued(row, marks[row.id]) for row in rows]
        rows = self.store.after(self.queue, self.position, limit, most_bytes, is_first=is_first)
        if rows:
            self.position = rows[-1].id
        return [Dequeued(row, False) for row in rows]
