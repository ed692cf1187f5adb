"""What the tests of brokers say and hear: messages that carry a name, and the names of those that came."""

import asyncio

from sickbay.ports import TO_MAIN, Message

PATIENCE_S = 30


def jobs(*names, key=TO_MAIN, **more):
    return [Message(key, name.encode(), **more) for name in names]


def bodies(deliveries):
    return [delivery.body.decode() for delivery in deliveries]


async def take(consumer, count):
    """Exactly `count` messages; a `get` may bring fewer than asked for."""
    deliveries = []
    async with asyncio.timeout(PATIENCE_S):
        while len(deliveries) < count:
            deliveries += await consumer.get(count - len(deliveries))
    return deliveries
