"""What the broker on RabbitMQ does with messages beyond the contract: foreign ones, retried ones, and those it cannot carry."""

import asyncio

import aio_pika
import aiormq
import pytest

from sickbay.adapters.rabbitmq import subscription
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.domain.errors import Unavailable
from sickbay.ports import TO_MAIN, TO_RETRY, Message, Queue
from tests.support.broker_backends import now
from tests.support.broker_messages import bodies, jobs, take
from tests.support.rabbitmq_helpers import depth_is, drain, publish_at_last
from tests.support.rabbitmq_raw import JAVAS_MINUS_ONE, publish_raw, short, table, text

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]


async def test_a_message_the_server_cannot_route_is_unavailable(url, broker):
    """The topology lost a binding after we had looked; nothing may count as published then."""
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_unbind("jobs.main", "jobs", TO_MAIN)
    with pytest.raises(Unavailable, match="sickbay topology apply"):
        await broker.publish(jobs("a", "b"))
    assert await broker.depth(Queue.MAIN) == 0


async def test_a_queue_that_was_deleted_comes_back_with_its_consumer(url, broker):
    async with broker.consume(Queue.MAIN, 10) as consumer:
        await broker.publish(jobs("a"))
        (await take(consumer, 1))[0].ack()
        async with aiormq.connect(url) as connection:
            await (await connection.channel()).queue_delete("jobs.main")
        await publish_at_last(broker, jobs("b"))
        assert bodies(await take(consumer, 1)) == ["b"]


@pytest.mark.parametrize(
    "message",
    [
        Message(TO_RETRY, b"", delay_ms=-1),
        Message(TO_RETRY, b"", delay_ms=2**32),
        Message(TO_MAIN, b"", message_id="\ud800"),
        Message(TO_MAIN, b"", message_id="x" * 256),
        Message(TO_MAIN, b"", headers={"a": "\ud800"}),
        Message(TO_MAIN, b"", headers={"a" * 256: ""}),
        Message("job." + "x" * 252, b""),
        Message(TO_MAIN, bytes(16 * 1024 * 1024 + 1)),
    ],
    ids=["negative delay", "long delay", "id no text", "long id", "header no text", "long name", "long key", "large body"],
)
async def test_what_amqp_cannot_carry_harms_no_neighbour(broker, message):
    neighbour, refused = await asyncio.gather(broker.publish(jobs("a")), broker.publish([message]), return_exceptions=True)
    assert neighbour is None
    assert isinstance(refused, ValueError)


async def test_delays_of_other_classes_do_not_wait_for_each_other(broker):
    async with broker.consume(Queue.MAIN, 10) as consumer:
        for delay_ms in (86_400_000, 3_600_000, 500_000, 100_000, 20_000):
            await broker.publish(jobs("long", key=TO_RETRY, delay_ms=delay_ms))
        await broker.publish(jobs("short", key=TO_RETRY, delay_ms=50))
        assert bodies(await take(consumer, 1)) == ["short"]
        await depth_is(broker, Queue.RETRY, 5)


async def test_a_job_can_be_retried_for_ever(url, broker):
    """The broker's own history of a message does not come back to it: 3.10 takes it for a cycle and drops the job."""
    async with broker.consume(Queue.MAIN, 10) as consumer:
        await broker.publish(jobs("a", key=TO_RETRY, delay_ms=1, headers={"traceparent": "00-1"}))
        for _ in range(4):
            (delivery,) = await take(consumer, 1)
            assert "x-death" in delivery.properties.headers
            assert dict(delivery.headers) == {"traceparent": "00-1"}
            headers = {**delivery.headers, "x-death": "[]", "x-first-death-queue": "jobs.retry", "x-last-death-queue": "jobs.retry"}
            await broker.publish([Message(TO_RETRY, delivery.body, 1, headers=headers)])
            delivery.ack()


async def foreign(url, *names, **properties):
    """Publish as a program that knows nothing of us."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in names:
            message = aio_pika.Message(name.encode(), **properties)
            message.message_id = properties.get("message_id")
            await channel.default_exchange.publish(message, routing_key="jobs.main")


async def raw_publish(url, *names):
    """The same without even a message id, which the drivers add by themselves."""
    async with aiormq.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        for name in names:
            header = aiormq.spec.Basic.Properties()
            frames = [
                aiormq.spec.Basic.Publish(exchange="", routing_key="jobs.main"),
                aiormq.connection.pamqp.header.ContentHeader(properties=header, body_size=len(name)),
                aiormq.connection.pamqp.body.ContentBody(name.encode()),
            ]
            await channel.write_queue.put(aiormq.abc.ChannelFrame.marshall(channel.number, frames))
        await channel.close()


async def test_a_foreign_message_keeps_its_id_and_its_headers_are_text(url, broker):
    await foreign(url, "a", message_id="theirs", headers={"n": 1, "s": "x"}, delivery_mode=1)
    async with broker.consume(Queue.MAIN, 10) as consumer:
        (delivery,) = await take(consumer, 1)
        assert (delivery.message_id, dict(delivery.headers), delivery.redelivered) == ("theirs", {"n": "1", "s": "x"}, False)


async def test_foreign_messages_without_an_id_get_one_that_stays(url, broker):
    """Each its own, also for equal bodies; it survives a redelivery to another session."""
    await raw_publish(url, "a", "a", "a")
    async with broker.consume(Queue.MAIN, 10) as consumer:
        first = await take(consumer, 3)
        assert bodies(first) == ["a"] * 3
        assert not any(delivery.redelivered for delivery in first)
    ids = [delivery.message_id for delivery in first]
    assert len(set(ids)) == 3
    assert all(ids)
    async with RabbitBroker(url, now) as other, other.consume(Queue.MAIN, 10) as consumer:
        again = await take(consumer, 3)
        assert [(delivery.message_id, delivery.redelivered) for delivery in again] == [(one, True) for one in ids]


@pytest.mark.parametrize(
    "properties",
    [
        {"timestamp": JAVAS_MINUS_ONE},
        {"message_id": short(b"\xff\xfe")},
        {"correlation_id": short(b"\xff")},
        {"headers": table((b"at", b"T" + JAVAS_MINUS_ONE))},
        {"headers": table((b"\xff", text(b"\xff")))},
        {"headers": table((b"nest", b"F" + table((b"at", b"T" + JAVAS_MINUS_ONE))))},
    ],
    ids=["timestamp", "id no text", "correlation id no text", "header a time", "header no text", "header nested"],
)
async def test_properties_the_driver_cannot_read_end_no_session(url, broker, properties):
    """The message comes with the body it has, so do its neighbours, and a copy of it can be read by everybody."""
    assert await publish_raw(url, b"odd", **properties)
    await broker.publish(jobs("sound"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        taken = await take(consumer, 2)
        assert sorted(bodies(taken)) == ["odd", "sound"]
        assert not any(delivery.redelivered for delivery in taken)
        assert all(delivery.message_id for delivery in taken)
        for delivery in taken:
            await broker.publish([Message(TO_RETRY, delivery.body, 1, headers=delivery.headers)])
            delivery.ack()
        assert sorted(bodies(await take(consumer, 2))) == ["odd", "sound"]


async def test_a_routing_key_that_is_no_text_ends_no_session(url, broker):
    """Whoever may publish events may choose any key below `job.`."""
    assert await publish_raw(url, b"odd", "jobs.events", b"job.\xff\xfe")
    async with broker.consume(Queue.LEDGER, 10) as consumer:
        assert bodies(await take(consumer, 1)) == ["odd"]


async def test_a_message_given_back_twice_goes_to_the_broker(broker):
    """The first time it stays with us, under its old tag; then another process may do better with it."""
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        (first,) = await take(consumer, 1)
        first.nack()
        (second,) = await take(consumer, 1)
        assert (second.tag, second.redelivered) == (first.tag, True)
        second.nack()
        (third,) = await take(consumer, 1)
        assert (third.tag, third.redelivered) == (first.tag + 1, True)


async def test_a_delivery_knows_how_its_publisher_packed_it(url, broker):
    """So that it can be said of one that nobody could read, also after it got an id; what is no text says nothing."""
    for encoding in (b"gzip", b"\xff"):
        assert await publish_raw(url, b"packed", content_encoding=short(encoding))
    await broker.publish(jobs("plain"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        taken = await take(consumer, 3)
        assert sorted((delivery.body, delivery.encoding) for delivery in taken) == [(b"packed", ""), (b"packed", "gzip"), (b"plain", "")]


async def test_a_message_held_for_long_goes_to_the_broker_when_it_is_given_back(broker, monkeypatch):
    """RabbitMQ counts from when it sent the message: only a new delivery has the whole time again."""
    monkeypatch.setattr(subscription, "KEEP_S", 0.0)
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        (first,) = await take(consumer, 1)
        first.nack()
        (second,) = await take(consumer, 1)
        assert (second.tag, second.redelivered) == (first.tag + 1, True)
        assert first.held_s > second.held_s >= 0


async def test_stopping_under_load_hands_everything_on_unmarked(url, broker):
    """Only what was in our hands comes back marked, whatever was on its way when we stopped."""
    names = {str(n) for n in range(500)}
    await broker.publish(jobs(*names))
    done = set()
    async with broker.consume(Queue.MAIN, 50) as consumer:
        while len(done) < 200:
            for delivery in await consumer.get(10):
                done.add(delivery.body.decode())
                delivery.ack()
        held = await take(consumer, 5)
        await consumer.stop()
    found = await drain(url)
    assert found.keys() == names - done
    assert {name for name, mark in found.items() if mark} == set(bodies(held))
