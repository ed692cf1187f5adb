"""A program that publishes and consumes as fast as it can and tells, a line at a time, what has happened, until it is killed.

Lines: `P n` n was confirmed, `G n` n was handed out (True or False: its mark), `A n` n is about to be acked (every even one).
"""

import asyncio
import os
import sys

from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.ports import TO_MAIN, Consumer, Message, Queue
from tests.support.broker_backends import now

LIMIT = 7
BATCH = 5


def tell(word: str, numbers: list[int]) -> None:
    os.write(1, "".join(f"{word} {number}\n" for number in numbers).encode())


async def publish(broker: SqliteBroker, first: int) -> None:
    while True:
        numbers = list(range(first, first + BATCH))
        await broker.publish([Message(TO_MAIN, str(number).encode()) for number in numbers])
        tell("P", numbers)
        first += BATCH


async def consume(consumer: Consumer) -> None:
    while deliveries := await consumer.get(LIMIT):
        tell("G", [int(delivery.body) for delivery in deliveries])
        for delivery in deliveries:
            if int(delivery.body) % 2 == 0:
                tell("A", [int(delivery.body)])
                delivery.ack()


async def main(path: str) -> None:
    async with SqliteBroker(path, now) as broker, broker.consume(Queue.MAIN, 150) as consumer:
        await asyncio.gather(publish(broker, 0), publish(broker, 1_000_000), consume(consumer))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
