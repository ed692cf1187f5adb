"""On the server as well a small publish waits for no large one, and the two channels are one session."""

import asyncio

import aiormq
import pytest

from sickbay.domain.errors import Unavailable
from sickbay.ports import Queue
from tests.support.broker_messages import jobs
from tests.support.faults.proxy import Proxy
from tests.support.rabbitmq_helpers import depth_is, drain, through

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]


def large(name, count=500):
    return jobs(*(f"{name} {number}" for number in range(count)))


async def test_a_small_publish_passes_large_ones(broker):
    ended = []
    calls = [asyncio.create_task(broker.publish(large(name))) for name in "abcd"]
    for name, call in zip("abcd", calls, strict=True):
        call.add_done_callback(lambda _, name=name: ended.append(name))
    await asyncio.sleep(0)
    await broker.publish(jobs("small"))
    assert not ended
    await asyncio.gather(*calls)
    await depth_is(broker, Queue.MAIN, 4 * 500 + 1)


async def test_a_reset_in_the_middle_of_large_publishes_loses_nothing_that_was_confirmed(url):
    confirmed, failed = set(), set()

    async def publish(broker, name):
        try:
            await broker.publish(large(name, 100))
        except Unavailable:
            failed.add(name)
        else:
            confirmed.update(f"{name} {number}" for number in range(100))

    async with Proxy.before(url) as proxy, through(proxy, url) as broker:
        await broker.ready()
        proxy.reset_after(100_000)
        await asyncio.gather(*(publish(broker, name) for name in "abcdefghijkl"))
        assert failed
        await broker.publish(large("last", 100))
    found = await drain(url)
    assert confirmed | {f"last {number}" for number in range(100)} <= found.keys()


@pytest.mark.parametrize("which", ["channel", "express"])
async def test_the_loss_of_either_channel_ends_the_session_for_both(broker, which):
    """RabbitMQ closes a channel for a mistake on it; whoever publishes on the other one must not go on with half a session."""
    old = broker._publishing.current
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await getattr(old, which).basic_publish(b"", exchange="nowhere")
    assert old.is_lost
    await broker.publish(jobs("small"))
    await broker.publish(large("large", 20))
    assert broker._publishing.current is not old
    await depth_is(broker, Queue.MAIN, 21)
