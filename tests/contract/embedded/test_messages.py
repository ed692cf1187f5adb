"""The embedded broker beyond the contract: delays by its clock, odd messages, and gets that end in the moment of their answer."""

import asyncio

import pytest

from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.topology import MAX_DELAY_MS
from sickbay.ports import TO_MAIN, TO_RETRY, Message, Queue
from tests.support.broker_messages import jobs, take
from tests.support.queue_files import PATIENCE, drain


async def test_a_delay_that_ended_while_nobody_ran_is_due_on_opening(path, clock):
    async with SqliteBroker(path, clock) as broker:
        await broker.publish([Message(TO_RETRY, b"b", 3_000_000), Message(TO_RETRY, b"a", 2_000_000), Message(TO_RETRY, b"c", 9_000_000)])
    clock.now += 5_000_000
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock) as broker, broker.consume(Queue.MAIN, 10) as consumer:
        assert [(d.body, d.redelivered) for d in await take(consumer, 2)] == [(b"a", False), (b"b", False)]
        assert await broker.depth(Queue.RETRY) == 1


async def test_a_clock_set_back_before_the_start_holds_up_no_retry_for_longer_than_its_delay(path, clock):
    """An hour, and the retries of five seconds waited for an hour."""
    async with SqliteBroker(path, clock) as broker:
        await broker.publish([Message(TO_RETRY, b"a", 5_000), Message(TO_RETRY, b"b", 9_000)])
    for _ in range(2):
        clock.now -= 3_600_000
        async with SqliteBroker(path, clock) as broker:
            assert broker._timer.due == clock.now + 5_000
    clock.now += 5_000
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock) as broker, broker.consume(Queue.MAIN, 10) as consumer:
        assert [delivery.body for delivery in await take(consumer, 1)] == [b"a"]
        assert broker._timer.due == clock.now + 4_000


async def test_a_clock_set_back_before_the_first_start_of_this_version_is_survived(path, clock):
    """Files of older versions do not say by which time their delays were given."""
    async with SqliteBroker(path, clock) as broker:
        await broker.publish([Message(TO_RETRY, b"a", 5_000)])
        broker._store._connection.execute("DROP TABLE clock")
    async with SqliteBroker(path, clock) as broker:
        assert broker._timer.due == clock.now + 5_000


async def test_thousands_of_due_retries_move_in_several_turns_in_due_order(broker, clock):
    await broker.publish([Message(TO_RETRY, str(n).encode(), 2000 - n) for n in range(1200)])
    clock.now += 2000
    async with broker.consume(Queue.MAIN, 2000) as consumer:
        await broker.publish(jobs("nudge"))
        assert [d.body.decode() for d in await take(consumer, 1201)] == ["nudge", *map(str, reversed(range(1200)))]


async def test_an_idle_broker_has_no_work_and_no_timer(broker, clock):
    await broker.publish(jobs("a"))
    await drain(broker)
    await broker.publish([Message("job.succeeded", b"")])
    assert not broker._has_work(clock())
    assert not broker._timer.is_set


@pytest.mark.parametrize(
    "message",
    [
        Message(TO_RETRY, b"", delay_ms=-1),
        Message(TO_RETRY, b"", delay_ms=MAX_DELAY_MS + 1),
        Message(TO_MAIN, b"", message_id="\ud800"),
        Message(TO_MAIN, "text"),
        Message(TO_MAIN, b"", headers={"a": b"bytes"}),
    ],
    ids=["negative delay", "long delay", "id no text", "body no bytes", "header no text"],
)
async def test_a_message_that_cannot_be_stored_harms_no_neighbour(broker, message):
    neighbour, refused = await asyncio.gather(broker.publish(jobs("a")), broker.publish([message]), return_exceptions=True)
    assert neighbour is None
    assert isinstance(refused, (ValueError, TypeError))
    assert await drain(broker) == {"a": [False]}


async def test_ids_and_headers_may_hold_any_text(broker):
    await broker.publish(jobs("a", message_id='"\x00ü\n\\', headers={"\x00": "\ud800"}))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        (delivery,) = await take(consumer, 1)
        assert (delivery.message_id, delivery.headers) == ('"\x00ü\n\\', {"\x00": "\ud800"})


async def test_a_hand_out_ends_before_it_fills_the_memory(broker):
    await broker.publish([Message(TO_MAIN, bytes(1024 * 1024)) for _ in range(20)])
    async with broker.consume(Queue.MAIN, 100) as consumer:
        assert 1 <= len(await consumer.get(100)) < 20


async def test_what_was_being_handed_out_on_stop_goes_back_unmarked(broker):
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as leaving, broker.consume(Queue.MAIN, 1) as staying:
        waiting = asyncio.create_task(leaving.get(1))
        handed_out = asyncio.Event()
        wait_for_disk = broker._use_disk
        broker._use_disk = lambda *job: (handed_out.set(), wait_for_disk(*job))
        await handed_out.wait()
        await leaving.stop()
        assert list(await waiting) == []
        assert [d.redelivered for d in await take(staying, 1)] == [False]


async def test_a_get_cancelled_in_the_moment_of_its_answer_gives_it_back(broker):
    async with broker.consume(Queue.MAIN, 1) as consumer:
        waiting = asyncio.create_task(consumer.get(1))
        await broker.publish(jobs("a", "b"))
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [(d.body, d.redelivered) for d in await take(consumer, 1)] == [(b"a", False)]


async def test_a_get_stopped_in_the_moment_of_its_answer_gives_it_to_the_next(broker):
    async with broker.consume(Queue.MAIN, 1) as leaving, broker.consume(Queue.MAIN, 1) as staying:
        waiting, next_one = asyncio.create_task(leaving.get(1)), asyncio.create_task(staying.get(1))
        await broker.publish(jobs("a"))
        assert not waiting.done()
        await leaving.stop()
        assert list(await waiting) == []
        assert [(d.body, d.redelivered) for d in await next_one] == [(b"a", False)]


async def test_cancelled_gets_leave_nothing_behind(broker):
    async with broker.consume(Queue.MAIN, 1) as consumer:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await consumer.get(1)
        assert not broker._queues[Queue.MAIN].pending_gets
