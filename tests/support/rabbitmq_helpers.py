"""What the tests of the broker on RabbitMQ share: a way to it through a proxy, and looks at what its queues hold."""

import asyncio

from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.domain.errors import Unavailable
from sickbay.ports import Queue
from tests.support.broker_backends import now
from tests.support.broker_messages import jobs


def through(proxy, url, **more):
    return RabbitBroker(proxy.through(url), now, **more)


async def publish_at_last(broker, messages):
    """Again and again until it is confirmed."""
    while True:
        try:
            await broker.publish(messages)
        except Unavailable:
            continue
        return


async def depth_is(broker, queue, expected):
    while await broker.depth(queue) != expected:
        await asyncio.sleep(0.02)


async def drain(url):
    """Everything in the main queue with its mark, by body; what is published now comes last."""
    found = {}
    async with RabbitBroker(url, now) as broker, broker.consume(Queue.MAIN, 1000) as consumer:
        await broker.publish(jobs("the end"))
        while "the end" not in found:
            for delivery in await consumer.get(1000):
                found[delivery.body.decode()] = delivery.redelivered
                delivery.ack()
    del found["the end"]
    return found
