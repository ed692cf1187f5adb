"""What the tests of the embedded broker share: a look at what waits."""

from collections import defaultdict

from sickbay.ports import Queue
from tests.support.broker_messages import take

PATIENCE = 20


async def drain(broker):
    """Everything that waits in the main queue, with its marks; a body twice would show as a list of two."""
    found = defaultdict(list)
    async with broker.consume(Queue.MAIN, 1_000_000) as consumer:
        for delivery in await take(consumer, await broker.depth(Queue.MAIN)):
            found[delivery.body.decode()].append(delivery.redelivered)
            delivery.ack()
    return found
