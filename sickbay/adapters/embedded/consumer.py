"""A subscription to one queue of the embedded broker, and its deliveries."""

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
    """An unsettled message; see `sickbay.ports.Delivery`."""

    __slots__ = ("_consumer", "_headers", "body", "is_lost", "message_id", "number", "redelivered")

    def __init__(self, taken: Dequeued, consumer: SqliteConsumer) -> None:
        """Only consumers create these."""
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
        """The headers as published."""
        return _headers(self._headers) if self._headers else _NO_HEADERS

    @property
    def encoding(self) -> str:
        """Always empty: messages here have none."""
        return ""

    @property
    def is_foreign(self) -> bool:
        """Never: nobody else publishes here."""
        return False

    @property
    def held_s(self) -> float:
        """Always 0: there is no limit."""
        return 0.0

    def ack(self) -> None:
        """Acknowledge the message; it is redelivered if the process dies before this is stored."""
        self._consumer.ack(self)

    def nack(self) -> None:
        """Return the message to the head of its queue, marked as redelivered."""
        self._consumer.nack(self)


class SqliteConsumer:
    """See `sickbay.ports.Consumer`. Nothing is prefetched: a message is either in the queue or delivered."""

    def __init__(self, state: QueueState, prefetch: int, prefetch_bytes: int, wake: Callable[[], None]) -> None:
        """`wake` makes the broker run a batch soon."""
        self._state = state
        self._prefetch = prefetch
        self._prefetch_bytes = prefetch_bytes
        self._bytes = 0
        """The size of the unsettled messages."""
        self._wake = wake
        self._unsettled: dict[int, SqliteDelivery] = {}
        self._get_lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._pending: PendingGet | None = None
        self._stopped = asyncio.Event()

    @property
    def queue(self) -> Queue:
        """The queue it consumes."""
        return self._state.queue

    async def get(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one message and return up to `limit`, oldest first; empty once stopped. Unavailable: call again."""
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        async with self._get_lock:
            while self._is_full and not self._stopped.is_set():
                self._changed.clear()
                await self._changed.wait()
            if self._stopped.is_set():
                return ()
            taken = await self._take(min(limit, self._prefetch - len(self._unsettled)))
            if self._stopped.is_set():
                self._return_unseen(taken)
                return ()
        deliveries = [SqliteDelivery(message, self) for message in taken]
        self._bytes += sum(len(delivery.body) for delivery in deliveries)
        self._unsettled.update((delivery.number, delivery) for delivery in deliveries)
        return deliveries

    @property
    def _is_full(self) -> bool:
        return len(self._unsettled) >= self._prefetch or self._bytes >= self._prefetch_bytes

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Return what nobody has looked at, with the marks they had."""
        for delivery in deliveries:
            if isinstance(delivery, SqliteDelivery) and self._remove(delivery):
                self._state.put_back(delivery.number, redelivered=delivery.redelivered)

    async def stop(self) -> None:
        """Stop consuming; a waiting `get` returns empty."""
        self._stopped.set()
        self._changed.set()
        if self._pending is not None and not self._pending.answer.done():
            self._pending.answer.set_result([])

    async def release(self) -> None:
        """Stop, and return unsettled messages; settling them afterwards does nothing."""
        await self.stop()
        for number, delivery in self._unsettled.items():
            delivery.is_lost = True
            self._state.put_back(number, redelivered=True)
        self._unsettled.clear()
        self._wake()

    def ack(self, delivery: SqliteDelivery) -> None:
        """Acknowledge a delivery."""
        if self._remove(delivery):
            self._state.acked.append(delivery.number)

    def nack(self, delivery: SqliteDelivery) -> None:
        """Return a delivery to the queue."""
        if self._remove(delivery):
            self._state.put_back(delivery.number, redelivered=True)

    def _remove(self, delivery: SqliteDelivery) -> bool:
        # The same message may have been delivered again: an old delivery must not settle it.
        if self._unsettled.get(delivery.number) is not delivery:
            return False
        del self._unsettled[delivery.number]
        self._bytes -= len(delivery.body)
        self._changed.set()
        self._wake()
        return True

    async def _take(self, limit: int) -> list[Dequeued]:
        answer: asyncio.Future[list[Dequeued]] = asyncio.get_running_loop().create_future()
        self._pending = pending = PendingGet(limit, answer, self._prefetch_bytes - self._bytes)
        self._state.pending_gets.append(pending)
        self._wake()
        try:
            return await answer
        except asyncio.CancelledError:
            # The answer may have arrived at the same moment.
            if not answer.cancelled() and answer.exception() is None:
                self._return_unseen(answer.result())
            raise
        finally:
            self._pending = None
            with suppress(ValueError):
                self._state.pending_gets.remove(pending)

    def _return_unseen(self, taken: list[Dequeued]) -> None:
        self._state.return_unseen(taken)
        self._wake()


def _headers(text: str) -> Mapping[str, str]:
    """A JSON object of strings; a row written by another program may have anything."""
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return _NO_HEADERS
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else _NO_HEADERS
