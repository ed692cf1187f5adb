"""What telemetry around a broker does not look at goes straight through."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sickbay.ports import Broker, Consumer, Queue


class AroundBroker:
    """Implements `Broker` around another one, all but `publish`."""

    def __init__(self, broker: Broker) -> None:
        """`broker` does the work."""
        self._broker = broker

    def consume(self, queue: Queue, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """See `Broker.consume`."""
        return self._broker.consume(queue, prefetch)

    async def depth(self, queue: Queue) -> int:
        """See `Broker.depth`."""
        return await self._broker.depth(queue)

    async def consumers(self, queue: Queue) -> int:
        """See `Broker.consumers`."""
        return await self._broker.consumers(queue)
