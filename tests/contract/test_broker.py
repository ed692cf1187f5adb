"""What every broker must do, whatever technology it is (`sickbay.ports.Broker`)."""

import asyncio

import pytest

from sickbay.domain.errors import Unavailable
from sickbay.domain.lane import Lane
from sickbay.ports import LANES, TO_MAIN, TO_QUARANTINE, TO_RETRY, Message, Queue
from tests.support.broker_backends import BACKENDS, now
from tests.support.broker_messages import bodies, jobs, take

PATIENCE = 10


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def backend(request, tmp_path):
    return request.param(tmp_path)


@pytest.fixture
def durable(backend):
    """One that keeps messages when nobody has it open."""
    if not backend.features.is_durable:
        pytest.skip("this broker forgets")
    return backend


@pytest.fixture
async def broker(backend):
    async with asyncio.timeout(PATIENCE * 3), backend.open() as opened:
        yield opened


def marks(deliveries):
    return {delivery.body.decode(): delivery.redelivered for delivery in deliveries}


async def depth_is(backend, broker, queue, expected):
    """Assert the depth, waiting for it where a broker counts late."""
    if backend.features.depth_lag:
        async with asyncio.timeout(PATIENCE):
            while await broker.depth(queue) != expected:
                await asyncio.sleep(backend.features.depth_lag)
    assert await broker.depth(queue) == expected


async def test_confirmed_messages_are_there_after_reopening(durable):
    async with durable.open() as broker:
        await broker.publish(jobs("a", "b"))
    async with durable.open() as broker, broker.consume(Queue.MAIN, 10) as consumer:
        assert marks(await take(consumer, 2)) == {"a": False, "b": False}


async def test_everything_published_arrives_in_order(broker):
    published = [Message(TO_MAIN, bytes([n, 0, 255]), message_id=f"id-{n}", headers={"n": str(n), "ü": '"'}) for n in range(100)]
    await broker.publish(published[:50])
    await broker.publish(published[50:])
    async with broker.consume(Queue.MAIN, 100) as consumer:
        arrived = await take(consumer, 100)
        assert [(d.body, d.message_id, dict(d.headers)) for d in arrived] == [(m.body, m.message_id, m.headers) for m in published]


async def test_a_message_without_id_gets_one_that_stays(broker):
    await broker.publish(jobs("a", "b"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        first = await take(consumer, 2)
        assert first[0].message_id != first[1].message_id
        assert dict(first[0].headers) == {}
        for delivery in first:
            delivery.nack()
        assert [d.message_id for d in await take(consumer, 2)] == [d.message_id for d in first]


async def test_prefetch_bounds_the_messages_in_our_hands(broker):
    async with broker.consume(Queue.MAIN, 3) as consumer:
        await broker.publish(jobs(*"abcde"))
        held = await take(consumer, 3)
        waiting = asyncio.create_task(consumer.get(10))
        await broker.publish(jobs("f"))
        assert not waiting.done()
        held[1].ack()
        assert bodies(await waiting) == ["d"]


async def test_a_get_waits_for_the_first_message(broker):
    async with broker.consume(Queue.MAIN, 10) as consumer:
        waiting = asyncio.create_task(consumer.get(10))
        await broker.publish(jobs("a"))
        assert bodies(await waiting) == ["a"]


async def test_a_cancelled_get_loses_nothing(broker):
    async with broker.consume(Queue.MAIN, 1) as consumer:
        waiting = asyncio.create_task(consumer.get(1))
        await broker.publish(jobs("a"))
        waiting.cancel()
        await asyncio.wait([waiting])
        if waiting.cancelled():
            assert bodies(await take(consumer, 1)) == ["a"]


async def test_nack_puts_back_at_the_head_with_a_mark(broker):
    await broker.publish(jobs(*"abcd"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        first = await take(consumer, 3)
        first[2].nack()
        first[0].nack()
        again = await take(consumer, 3)
        assert bodies(again) == ["a", "c", "d"]
        assert marks(again) == {"a": True, "c": True, "d": False}


async def test_leaving_the_consumer_gives_back_with_a_mark(backend, broker):
    await broker.publish(jobs(*"abc"))
    async with broker.consume(Queue.MAIN, 2) as consumer:
        left = await take(consumer, 2)
        left[1].ack()
        assert not left[0].is_lost
    assert left[0].is_lost
    await depth_is(backend, broker, Queue.MAIN, 2)
    left[0].ack()
    async with broker.consume(Queue.MAIN, 10) as consumer:
        assert marks(await take(consumer, 2)) == {"a": True, "c": False}


async def test_a_lost_session_gives_back_with_a_mark(durable):
    async with durable.open() as broker:
        await broker.publish(jobs(*"abcd"))
        async with broker.consume(Queue.MAIN, 3) as consumer:
            (await take(consumer, 3))[1].ack()
    async with durable.open() as broker, broker.consume(Queue.MAIN, 10) as consumer:
        again = await take(consumer, 3)
        assert bodies(again) == ["a", "c", "d"]
        assert marks(again) == {"a": True, "c": True, "d": False}


async def test_retries_move_to_main_when_their_delay_is_over(backend, broker):
    delays = {"late": 240, "soon": 60, "next": 150} if backend.features.mixes_delays else {"soon": 60, "next": 60, "late": 60}
    start = now()
    async with broker.consume(Queue.MAIN, 10) as consumer:
        for name, delay in delays.items():
            await broker.publish(jobs(name, key=TO_RETRY, delay_ms=delay))
        for name in ("soon", "next", "late"):
            (delivery,) = await take(consumer, 1)
            assert delivery.body.decode() == name
            assert not delivery.redelivered
            assert now() - start >= delays[name]
            delivery.ack()
    await depth_is(backend, broker, Queue.RETRY, 0)


async def test_a_delayed_message_waits_in_retry(backend, broker):
    await broker.publish(jobs("a", key=TO_RETRY, delay_ms=60_000))
    await depth_is(backend, broker, Queue.RETRY, 1)
    await depth_is(backend, broker, Queue.MAIN, 0)


async def test_a_retry_without_delay_is_due_at_once(broker):
    async with broker.consume(Queue.MAIN, 1) as consumer:
        await broker.publish(jobs("a", key=TO_RETRY))
        assert bodies(await take(consumer, 1)) == ["a"]


@pytest.mark.parametrize(
    ("key", "queues"),
    [
        ("high", {Queue.HIGH}),
        (TO_MAIN, {Queue.MAIN}),
        ("demoted", {Queue.DEMOTED}),
        ("low", {Queue.LOW}),
        (TO_QUARANTINE, {Queue.QUARANTINE}),
        ("job.succeeded", {Queue.LEDGER}),
        ("job.quarantinedish", {Queue.LEDGER}),
        ("job.quarantined", {Queue.LEDGER, Queue.QUARANTINE}),
        ("job.quarantined.email", {Queue.LEDGER, Queue.QUARANTINE}),
    ],
)
async def test_keys_reach_their_queues(backend, broker, key, queues):
    await broker.publish(jobs("a", key=key))
    for queue in Queue:
        await depth_is(backend, broker, queue, int(queue in queues))


@pytest.mark.parametrize("delay_ms", [0, 1])
@pytest.mark.parametrize("lane", Lane)
async def test_a_retry_returns_to_its_lane(broker, lane, delay_ms):
    await broker.publish([Message(TO_RETRY, b"a", delay_ms, lane, "id", {"n": "1"})])
    async with broker.consume(LANES[lane], 1) as consumer:
        (delivery,) = await take(consumer, 1)
        assert (delivery.body, delivery.message_id, dict(delivery.headers)) == (b"a", "id", {"n": "1"})


@pytest.mark.parametrize("delay_ms", [60_000, 6_000_000])
@pytest.mark.parametrize("lane", Lane)
async def test_the_retries_of_all_lanes_are_counted_together(backend, broker, lane, delay_ms):
    await broker.publish([Message(TO_RETRY, b"a", delay_ms, lane)])
    for queue in Queue:
        await depth_is(backend, broker, queue, int(queue is Queue.RETRY))


async def test_what_was_put_back_comes_again_unmarked_in_its_place(backend, broker):
    await broker.publish(jobs(*"abc"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        taken = await take(consumer, 3)
        consumer.put_back(taken[1:])
        await depth_is(backend, broker, Queue.MAIN, 2)
        assert marks(await take(consumer, 2)) == {"b": False, "c": False}
        taken[0].ack()


async def test_what_was_put_back_before_the_end_was_never_seen(backend, broker):
    await broker.publish(jobs(*"abc"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        taken = await take(consumer, 3)
        consumer.put_back(taken[1:])
        await consumer.stop()
        taken[0].ack()
    async with broker.consume(Queue.MAIN, 10) as consumer:
        assert marks(await take(consumer, 2)) == {"b": False, "c": False}
        await depth_is(backend, broker, Queue.MAIN, 0)


async def test_what_is_settled_or_given_back_cannot_be_put_back(backend, broker):
    await broker.publish(jobs("a", "b"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        done, returned = await take(consumer, 2)
        done.ack()
        returned.nack()
        consumer.put_back([done, returned])
        assert marks(await take(consumer, 1)) == {"b": True}
        await depth_is(backend, broker, Queue.MAIN, 0)


async def test_both_copies_of_an_event_are_settled_on_their_own(backend, broker):
    await broker.publish(jobs("a", key="job.quarantined.email"))
    async with broker.consume(Queue.LEDGER, 1) as keeper, broker.consume(Queue.QUARANTINE, 1) as sweep:
        (event,), (copy,) = await take(keeper, 1), await take(sweep, 1)
        assert event.message_id == copy.message_id
        event.ack()
        copy.nack()
        assert marks(await take(sweep, 1)) == {"a": True}


@pytest.mark.parametrize("key", ["", "nowhere", "jobs.main", "job"])
async def test_an_unroutable_key_stores_nothing(backend, broker, key):
    with pytest.raises(ValueError, match="no queue is bound to the routing key"):
        await broker.publish([*jobs("a"), *jobs("b", key=key)])
    for queue in Queue:
        await depth_is(backend, broker, queue, 0)


async def test_publishing_nothing_returns(broker):
    await broker.publish([])


async def test_depth_counts_what_waits(backend, broker):
    await broker.publish(jobs(*"abc"))
    await depth_is(backend, broker, Queue.MAIN, 3)
    async with broker.consume(Queue.MAIN, 2) as consumer:
        held = await take(consumer, 2)
        await depth_is(backend, broker, Queue.MAIN, 1)
        held[0].nack()
        await depth_is(backend, broker, Queue.MAIN, 2)
        held[1].ack()
    await depth_is(backend, broker, Queue.MAIN, 2)


async def test_consumers_are_counted(broker):
    assert await broker.consumers(Queue.MAIN) == 0
    async with broker.consume(Queue.MAIN, 2), broker.consume(Queue.MAIN, 2), broker.consume(Queue.LEDGER, 1):
        assert await broker.consumers(Queue.MAIN) == 2
        assert await broker.consumers(Queue.LEDGER) == 1
    assert await broker.consumers(Queue.MAIN) == 0


async def test_stop_ends_a_waiting_get_and_all_later_ones(broker):
    async with broker.consume(Queue.MAIN, 10) as consumer:
        waiting = asyncio.create_task(consumer.get(1))
        await broker.publish([])
        await consumer.stop()
        assert list(await waiting) == []
        await broker.publish(jobs("a"))
        assert list(await consumer.get(1)) == []
        await consumer.stop()


async def test_stop_ends_a_get_that_waits_for_room(broker):
    await broker.publish(jobs(*"ab"))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        await take(consumer, 1)
        waiting = asyncio.create_task(consumer.get(1))
        await broker.publish(jobs("c"))
        await consumer.stop()
        assert list(await waiting) == []


async def test_after_stop_the_messages_in_our_hands_can_be_settled(broker):
    """Those never returned by `get` go back without a mark, at once."""
    await broker.publish(jobs(*"abcde"))
    async with broker.consume(Queue.MAIN, 5) as stopped, broker.consume(Queue.MAIN, 10) as other:
        held = await take(stopped, 3)
        await stopped.stop()
        assert marks(await take(other, 2)) == {"d": False, "e": False}
        held[0].ack()
        held[1].nack()
        assert marks(await take(other, 1)) == {"b": True}
    async with broker.consume(Queue.MAIN, 10) as consumer:
        assert sorted(bodies(await take(consumer, 4))) == ["b", "c", "d", "e"]


async def test_competing_consumers_share_the_queue(broker):
    names = [str(n) for n in range(60)]
    seen = []
    everything = asyncio.Event()

    async def work(consumer):
        while deliveries := await consumer.get(2):
            seen.extend(bodies(deliveries))
            for delivery in deliveries:
                delivery.ack()
            if len(seen) >= len(names):
                everything.set()

    async with broker.consume(Queue.MAIN, 4) as one, broker.consume(Queue.MAIN, 4) as two:
        workers = [asyncio.create_task(work(one)), asyncio.create_task(work(two)), asyncio.create_task(work(two))]
        await broker.publish(jobs(*names))
        async with asyncio.timeout(PATIENCE):
            await everything.wait()
        await one.stop()
        await two.stop()
        await asyncio.gather(*workers)
    assert sorted(seen, key=int) == names


async def test_large_messages_arrive_whole(broker):
    large = [bytes([n]) * (2 * 1024 * 1024) for n in range(3)]
    await broker.publish([Message(TO_MAIN, body) for body in large])
    async with broker.consume(Queue.MAIN, 10) as consumer:
        assert [delivery.body for delivery in await take(consumer, 3)] == large


async def test_settling_twice_does_nothing(broker):
    await broker.publish(jobs(*"ab"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        a, b = await take(consumer, 2)
        a.ack()
        a.nack()
        a.ack()
        b.nack()
        b.nack()
        b.ack()
        await broker.publish(jobs("c"))
        assert marks(await take(consumer, 2)) == {"b": True, "c": False}


async def test_an_old_delivery_does_not_settle_its_redelivery(backend, broker):
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        (old,) = await take(consumer, 1)
        old.nack()
        await take(consumer, 1)
        old.ack()
    await depth_is(backend, broker, Queue.MAIN, 1)


async def test_concurrent_publishers_keep_their_own_order(broker):
    async def publisher(name):
        for n in range(20):
            await broker.publish(jobs(f"{name}-{n}"))

    async with broker.consume(Queue.MAIN, 1000) as consumer:
        await asyncio.gather(*(publisher(name) for name in "abcdefghij"))
        arrived = bodies(await take(consumer, 200))
    for name in "abcdefghij":
        assert [body for body in arrived if body.startswith(name)] == [f"{name}-{n}" for n in range(20)]


async def test_acked_messages_stay_away_after_a_clean_close(durable):
    async with durable.open() as broker:
        await broker.publish(jobs(*"abc"))
        async with broker.consume(Queue.MAIN, 10) as consumer:
            for delivery in await take(consumer, 2):
                delivery.ack()
    async with durable.open() as broker, broker.consume(Queue.MAIN, 10) as consumer:
        assert bodies(await take(consumer, 1)) == ["c"]
        await depth_is(durable, broker, Queue.MAIN, 0)


async def test_a_closed_broker_is_unavailable(backend):
    async with backend.open() as broker:
        pass
    await broker.__aexit__(None, None, None)
    with pytest.raises(Unavailable):
        await broker.publish(jobs("a"))
    with pytest.raises(Unavailable):
        await broker.depth(Queue.MAIN)
    with pytest.raises(Unavailable):
        async with broker.consume(Queue.MAIN, 1):
            pass


async def test_closing_ends_a_waiting_get(backend):
    async with asyncio.timeout(PATIENCE):
        async with backend.open() as broker:
            consuming = broker.consume(Queue.MAIN, 1)
            consumer = await consuming.__aenter__()
            waiting = asyncio.create_task(consumer.get(1))
            await broker.publish(jobs("a", key=TO_QUARANTINE))
        assert list(await waiting) == []
        await consuming.__aexit__(None, None, None)
