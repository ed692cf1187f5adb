"""Publishes all messages of a service: through the broker, reported to the observer."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from sickbay.observer import NOBODY, Observer
from sickbay.ports import Broker, Message


class Publisher:
    """Publishes through a broker, and notifies the observer."""

    def __init__(self, broker: Broker, observer: Observer = NOBODY) -> None:
        """Publish through `broker`."""
        self._broker = broker
        self._observer = observer

    async def publish(self, messages: Sequence[Message]) -> None:
        """See `Broker.publish`: durable on return, Unavailable if not."""
        messages = self._observer.publishing(messages)
        began = perf_counter()
        error: BaseException | None = None
        try:
            await self._broker.publish(messages)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._observer.published(messages, perf_counter() - began, error)
