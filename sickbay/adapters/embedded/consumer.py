"""A subscription to one queue of the embedded broker, and the messages it hands out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from sickbay.adapters.embedded.queue_state import Dequeued, PendingGet, QueueState
from sickbay.ports import Delivery, Queue

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class SqliteDelivery:
    """One message in our hands; see `sickbay.ports.Delivery`."""

    __slots__ = ("_consumer", "_headers", "body", "is_lost", "message_id", "number", "redelivered")

    def __init__(self, taken: Dequeued, consumer: SqliteConsumer) -> None:
        """Only consumers make these."""
        row = taken.row
        self.body = row.body
        self.message_id = row.message_id
        self.redelivered = taken.redelivered
        self.is_lost = False
        self._headers = row.headers
        self.number = row.id
        self._consumer = consumer

    @property
    def headers(self) -> Mapping[str, str]:
        """What was published with it."""
        return _headers(self._headers) if self._headers else _NO_HEADERS

    @property
    def encoding(self) -> str:
        """Messages here have none."""
        return ""

    @property
    def held_s(self) -> float:
        """Always 0: it may be kept for as long as this process lives."""
        return 0.0

    def ack(self) -> None:
        """Destroy the message; it comes back if we die before this was stored."""
        self._consumer.ack(self)

    def nack(self) -> None:
        """Give the message back to the head of its queue, marked as redelivered."""
        self._consumer.nack(self)


class SqliteConsumer:
    """See `sickbay.ports.Consumer`. Nothing is fetched ahead: a message is either in the queue or in somebody's hands."""

    def __init__(self, lane: QueueState, prefetch: int, prefetch_bytes: int, wake: Callable[[], None]) -> None:
        """`wake` asks the broker to look at the lane soon."""
        self._lane = lane
        self._prefetch = prefetch
        self._prefetch_bytes = prefetch_bytes
        self._bytes = 0
        """Of the messages in hands."""
        self._wake = wake
        self._in_hands: dict[int, SqliteDelivery] = {}
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._claim: PendingGet | None = None
        self._stopped = asyncio.Event()

    @property
    def queue(self) -> Queue:
        """The queue it takes from."""
        return self._lane.queue

    async def get(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one message and return up to `limit`, oldest first; empty once stopped. Unavailable: ask again."""
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        async with self._one_at_a_time:
            while self._is_full and not self._stopped.is_set():
                self._changed.clear()
                await self._changed.wait()
            if self._stopped.is_set():
                return ()
            taken = await self._take(min(limit, self._prefetch - len(self._in_hands)))
            if self._stopped.is_set():
                self._return_unseen(taken)
                return ()
        deliveries = [SqliteDelivery(message, self) for message in taken]
        self._bytes += sum(len(delivery.body) for delivery in deliveries)
        self._in_hands.update((delivery.number, delivery) for delivery in deliveries)
        return deliveries

    @property
    def _is_full(self) -> bool:
        return len(self._in_hands) >= self._prefetch or self._bytes >= self._prefetch_bytes

    async def stop(self) -> None:
        """Take no more; a waiting `get` returns empty."""
        self._stopped.set()
        self._changed.set()
        if self._claim is not None and not self._claim.answer.done():
            self._claim.answer.set_result([])

    async def release(self) -> None:
        """Stop, and give back what is still in our hands; settling that afterwards does nothing."""
        await self.stop()
        for number, delivery in self._in_hands.items():
            delivery.is_lost = True
            self._lane.give_back(number, redelivered=True)
        self._in_hands.clear()
        self._wake()

    def ack(self, delivery: SqliteDelivery) -> None:
        """Destroy a message of ours."""
        if self._let_go(delivery):
            self._lane.acked.append(delivery.number)

    def nack(self, delivery: SqliteDelivery) -> None:
        """Give back a message of ours."""
        if self._let_go(delivery):
            self._lane.give_back(delivery.number, redelivered=True)

    def _let_go(self, delivery: SqliteDelivery) -> bool:
        # The same message may be in our hands again, as a later delivery: an old one must not settle that.
        if self._in_hands.get(delivery.number) is not delivery:
            return False
        del self._in_hands[delivery.number]
        self._bytes -= len(delivery.body)
        self._changed.set()
        self._wake()
        return True

    async def _take(self, limit: int) -> list[Dequeued]:
        answer: asyncio.Future[list[Dequeued]] = asyncio.get_running_loop().create_future()
        self._claim = claim = PendingGet(limit, answer, self._prefetch_bytes - self._bytes)
        self._lane.claims.append(claim)
        self._wake()
        try:
            return await answer
        except asyncio.CancelledError:
            # The answer may have come in the same moment.
            if not answer.cancelled() and answer.exception() is None:
                self._return_unseen(answer.result())
            raise
        finally:
            self._claim = None
            with suppress(ValueError):
                self._lane.claims.remove(claim)

    def _return_unseen(self, taken: list[Dequeued]) -> None:
        self._lane.take_back(taken)
        self._wake()


def _headers(text: str) -> Mapping[str, str]:
    """Ours are a JSON object of texts; a stranger's row may hold anything."""
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return _NO_HEADERS
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else _NO_HEADERS
