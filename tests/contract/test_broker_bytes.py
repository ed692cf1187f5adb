"""What a consumer holds is bounded in bytes, too, on every back end; one message beyond the bound still comes, alone."""

import asyncio
from collections import deque
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.adapters.rabbitmq.budget import Budget
from sickbay.ports import TO_MAIN, TO_RETRY, Message, Queue
from tests.support.broker_backends import now
from tests.support.rabbitmq_server import fresh_vhost

MOST = 1024 * 1024
pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def rabbitmq(_folder):
    async with RabbitBroker(await fresh_vhost(), now, prefetch_bytes=MOST) as broker:
        await broker.ready()
        yield broker


@asynccontextmanager
async def sqlite(folder):
    async with SqliteBroker(folder / "queue.db", now, prefetch_bytes=MOST) as broker:
        yield broker


@pytest.fixture(params=[sqlite, pytest.param(rabbitmq, marks=pytest.mark.servers)], ids=["sqlite", "rabbitmq"])
async def broker(request, tmp_path):
    async with request.param(tmp_path) as opened:
        yield opened


async def publish(broker, count, size, key=TO_MAIN, delay_ms=0):
    for number in range(count):
        await broker.publish([Message(key, number.to_bytes(4, "big") + bytes(size - 4), delay_ms)])


def size_of(deliveries):
    return sum(len(delivery.body) for delivery in deliveries)


async def settles_all(consumer, count):
    """Take so many, and settle one only when nothing more comes; the most bytes that were in our hands, and the numbers of the messages."""
    held, numbers, most = deque(), [], 0
    while len(numbers) < count:
        getting = asyncio.create_task(consumer.get(count))
        while not (await asyncio.wait({getting}, timeout=0.05))[0]:
            if held:
                held.popleft().ack()
        got = getting.result()
        held += got
        numbers += [int.from_bytes(delivery.body[:4], "big") for delivery in got]
        most = max(most, size_of(held))
    for delivery in held:
        delivery.ack()
    return most, numbers


async def test_no_more_is_handed_out_than_may_be_held(broker):
    """The next one comes when there is room again, and not before."""
    await publish(broker, 40, 200_000)
    async with broker.consume(Queue.MAIN, 100) as consumer:
        most, numbers = await settles_all(consumer, 40)
        assert sorted(numbers) == list(range(40))
        assert 2 * 200_000 <= most <= MOST + 200_000


async def test_one_beyond_the_bound_comes_all_the_same_and_so_do_its_neighbours(broker):
    """However large, however small the others are."""
    await publish(broker, 5, 100)
    await publish(broker, 1, 5 * MOST)
    await publish(broker, 5, 100)
    async with broker.consume(Queue.MAIN, 100) as consumer:
        _, numbers = await settles_all(consumer, 11)
        assert sorted(numbers) == sorted([*range(5), 0, *range(5)])
    assert await broker.depth(Queue.MAIN) == 0


async def test_a_burst_of_large_ones_after_many_small_ones_is_bounded_too(broker):
    """The prefetch has grown by then; what comes beyond the bound is not kept, and nothing is lost or comes twice."""
    await publish(broker, 120, 64)
    async with broker.consume(Queue.MAIN, 100) as consumer:
        await settles_all(consumer, 120)
        await publish(broker, 60, 150_000)
        most, numbers = await settles_all(consumer, 60)
        assert sorted(numbers) == list(range(60))
        assert most <= MOST + 150_000


async def test_retries_that_are_due_together_are_moved_in_turns(broker):
    """Whatever their sizes, all of them arrive."""
    await publish(broker, 10, 300_000, TO_RETRY, 1)
    async with broker.consume(Queue.MAIN, 100) as consumer:
        _, numbers = await settles_all(consumer, 10)
        assert sorted(numbers) == list(range(10))


@given(st.lists(st.tuples(st.integers(0, 40_000_000), st.booleans()), max_size=300), st.integers(1, 300), st.integers(1, 100_000_000))
def test_what_is_asked_for_is_at_least_one_and_what_is_held_comes_back_to_nothing(steps, prefetch, most):
    """Whatever comes and goes: no budget ends in a standstill, and one message always has room."""
    budget, held, present = Budget(prefetch, most), [], 1
    for size, settles in steps:
        budget.saw(size)
        if budget.has_room(size):
            budget.took(size)
            held.append(size)
        assert budget.held <= most or len(held) == 1
        if settles and held:
            budget.gave(held.pop(), was_out=False)
        better = budget.better(present)
        if better is not None:
            assert 1 <= better <= prefetch
            assert better != present
            present = better
    while held:
        budget.gave(held.pop(), was_out=False)
    assert budget.held == 0
    assert budget.has_room(10**12)


def test_small_messages_get_the_whole_prefetch_soon():
    """A healthy fleet loses nothing by it."""
    budget = Budget(200)
    for _ in range(50):
        budget.saw(500)
    assert budget.better(budget.fitting(0) - 1) == 200
