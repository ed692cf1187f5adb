"""The consumer on a subscription's channel: it begins, changes its prefetch and ends, and nothing on its way to it is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from aiormq import Channel
from aiormq.abc import DeliveredMessage

from sickbay.adapters.rabbitmq.ack_batch import AckBatch

_ARRIVAL_S: Final = 1.0
_FORMER: Final = 16
"""Consumers that were left, for which something may still be on its way."""


class Intake:
    """One per channel; its maker sees to it that no two of its coroutines run at a time, and that no ack is sent meanwhile."""

    def __init__(
        self, channel: Channel, queue: str, settlements: AckBatch, arrived: Callable[[DeliveredMessage], Coroutine[Any, Any, None]]
    ) -> None:
        """Nothing comes before `begin`; `arrived` is the driver's callback."""
        self._channel = channel
        self._queue = queue
        self._settlements = settlements
        self._arrived = arrived
        self._tag = ""
        self._former: deque[str] = deque()
        self._began_at = 0
        """The last tag that a former consumer was given."""
        self.last_tag = 0
        """The last one that came; the owner of `arrived` says so."""
        self.prefetch = 0

    async def begin(self, prefetch: int) -> None:
        """Ask for as many messages at a time."""
        for _ in range(2 if self._former else 1):
            # As in `end`: what a former consumer was sent has come after the second answer.
            await self._channel.basic_qos(prefetch_count=prefetch)
        self.prefetch = prefetch
        self._began_at = self.last_tag
        self._tag = (await self._channel.basic_consume(self._queue, self._arrived)).consumer_tag or ""

    async def change(self, prefetch: int) -> None:
        """Ask for more or fewer from now on, which RabbitMQ allows only to a new consumer."""
        await self._arrivals()
        await self._leave()
        self._former.append(self._tag)
        await self.begin(prefetch)
        if len(self._former) > _FORMER:
            self._channel.consumers.pop(self._former.popleft(), None)

    async def end(self) -> None:
        """Ask for no more, when nothing is on its way: RabbitMQ would mark that as redelivered, and the driver throw it away.

        Acks must wait meanwhile, for each would bring another message.
        """
        await self._arrivals()
        await self._leave()
        for _ in range(2):
            # The first answer may overtake what was sent before the server had cancelled; the second cannot.
            await self._channel.basic_qos(prefetch_count=1)

    def asked_for_more(self, consumer: str) -> bool:
        """Whether a message that came to this consumer may have come only because more than one was asked for."""
        return self.prefetch > 1 or consumer in self._former

    async def _leave(self) -> None:
        """End the consumer; what is on its way to it comes nevertheless: without CancelOk, on which the driver forgets the callback."""
        callback = self._channel.consumers[self._tag]
        await self._channel.basic_cancel(self._tag, nowait=True)
        self._channel.consumers[self._tag] = callback

    async def _arrivals(self) -> None:
        """Wait a moment for what is on its way: it has all arrived once we have as many as we may, or the queue has no more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ARRIVAL_S
        while self.last_tag - self._began_at - self._settlements.told_after(self._began_at) < self.prefetch and loop.time() < deadline:
            if not (await self._channel.queue_declare(self._queue, passive=True)).message_count:
                return
