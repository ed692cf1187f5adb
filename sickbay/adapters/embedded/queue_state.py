"""The in-memory state of one queue of the embedded broker: its position, the waiting gets, and what the next transaction must do.

Messages are delivered strictly by rising id, so one number per queue, the position, shows after a crash which have been delivered: every
stored message up to it (redelivered), and none after it. That costs one small update per transaction, not a row per message.
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
_ENOUGH_BYTES: Final = 1024 * 1024
"""The most that one `get` returns, however many messages it asked for; a larger message comes alone. Reading it takes about 1 ms."""


class Dequeued(NamedTuple):
    """A message taken from its queue, and whether it may have been delivered before."""

    row: Row
    redelivered: bool


@dataclass(slots=True, eq=False)
class PendingGet:
    """A `get` that waits for up to `limit` messages and `most_bytes`; the first may be larger."""

    limit: int
    answer: asyncio.Future[list[Dequeued]]
    most_bytes: int = _ENOUGH_BYTES


class Fulfilled(NamedTuple):
    """A pending get and its messages, to be delivered as soon as that is durable."""

    state: QueueState
    pending: PendingGet
    taken: list[Dequeued]

    def return_unseen(self) -> None:
        """The caller is gone and has not seen the messages: make them ready again, with the marks they had."""
        self.state.return_unseen(self.taken)


class _Saved(NamedTuple):
    position: int
    waiting: int
    returned: list[tuple[int, bool]]
    pending_gets: deque[PendingGet]


@dataclass(slots=True, eq=False)
class QueueState:
    """One queue. `apply` executes `inbox`, `acked` and `pending_gets` inside a transaction; then call `commit` or `rollback`."""

    queue: Queue
    store: QueueFile
    position: int = 0
    waiting: int = 0
    returned: list[tuple[int, bool]] = field(default_factory=list)
    """Heap of the returned messages, with their marks: all at or before the position."""
    inbox: list[Row] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    pending_gets: deque[PendingGet] = field(default_factory=deque)
    _saved: _Saved | None = None

    @classmethod
    def load(cls, queue: Queue, store: QueueFile) -> QueueState:
        """The queue as the last process left it: unsettled messages are returned, marked."""
        position = store.position(queue)
        returned = [(number, True) for number in store.ids_until(queue, position)]
        return cls(queue, store, position, store.count(queue), returned)

    @property
    def has_work(self) -> bool:
        """Whether a transaction would change anything."""
        return bool(self.inbox or self.acked or (self.pending_gets and self.waiting))

    def put_back(self, number: int, *, redelivered: bool) -> None:
        """Return a message to its place. Needs no transaction: it never left the table, and the position keeps the mark."""
        heappush(self.returned, (number, redelivered))
        self.waiting += 1

    def return_unseen(self, taken: list[Dequeued]) -> None:
        """Return messages that no consumer has seen, with the marks they had."""
        for message in taken:
            self.put_back(message.row.id, redelivered=message.redelivered)

    def begin(self) -> None:
        """Save the state for `rollback`."""
        self._saved = _Saved(self.position, self.waiting, self.returned.copy(), self.pending_gets.copy())

    def apply(self) -> list[Fulfilled]:
        """Inside a transaction: delete, append, then fulfil the pending gets, also with new messages."""
        if self.acked:
            self.store.delete(self.queue, self.acked)
        self.append(self.inbox)
        position = self.position
        fulfilled = []
        while self.waiting and self.pending_gets:
            pending = self.pending_gets.popleft()
            if not pending.answer.done():
                fulfilled.append(Fulfilled(self, pending, self._take(pending.limit, min(_ENOUGH_BYTES, pending.most_bytes))))
        if self.position != position:
            self.store.move_position(self.queue, self.position)
        return fulfilled

    def append(self, rows: list[Row]) -> None:
        """Inside a transaction: append messages."""
        if rows:
            self.store.insert(self.queue, rows)
            self.waiting += len(rows)

    def remove(self, numbers: list[int]) -> None:
        """Inside a transaction: delete messages that were not delivered."""
        self.store.delete(self.queue, numbers)
        self.waiting -= len(numbers)

    def commit(self) -> None:
        """The transaction was committed."""
        self._saved = None
        self.inbox.clear()
        self.acked.clear()

    def rollback(self) -> list[PendingGet]:
        """The transaction failed. Acks stay for the next one, the inbox is lost; returns the gets that could have been fulfilled."""
        if self._saved is not None:
            self.position, self.waiting, self.returned, self.pending_gets = self._saved
            self._saved = None
        self.inbox.clear()
        if not self.waiting:
            return []
        failed = list(self.pending_gets)
        self.pending_gets.clear()
        return failed

    def _take(self, limit: int, most_bytes: int) -> list[Dequeued]:
        """Take from the head: at least one, and fewer than `limit` when they are large."""
        taken: list[Dequeued] = []
        left = most_bytes
        while len(taken) < min(limit, self.waiting) and (left > 0 or not taken):
            # The first few show how large messages are, so that a read never has much more than is delivered.
            chunk = _CHUNK if taken and most_bytes - left < _SMALL_BYTES else _FIRST_CHUNK
            more = self._next(min(chunk, limit - len(taken)), left, is_first=not taken)
            if not more:
                break
            taken += more
            left -= sum(len(message.row.body) for message in more)
        self.waiting -= len(taken)
        return taken

    def _next(self, limit: int, most_bytes: int, *, is_first: bool) -> list[Dequeued]:
        """The next messages that fit; the first one always does."""
        if self.returned:
            marks = dict(nsmallest(limit, self.returned))
            rows = self.store.with_ids(self.queue, list(marks), most_bytes, is_first=is_first)
            seen = rows[-1].id if rows else max(marks) if is_first else -1  # nothing at all: another program has deleted them
            while self.returned and self.returned[0][0] <= seen:
                heappop(self.returned)
            return [Dequeued(row, marks[row.id]) for row in rows]
        rows = self.store.after(self.queue, self.position, limit, most_bytes, is_first=is_first)
        if rows:
            self.position = rows[-1].id
        return [Dequeued(row, False) for row in rows]
