"""Which messages are our services' own: RabbitMQ compares the `user-id` of a message with the connection's user."""

import aiormq
import pytest
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic
from yarl import URL

from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.domain.lane import Lane
from sickbay.ports import TO_MAIN, TO_RETRY, Message, Queue
from tests.support.broker_backends import now
from tests.support.broker_messages import take
from tests.support.rabbitmq_server import rabbitmqctl

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]
OTHER = "sickbay-test-other"
PASSWORD = "for-this-test-alone"


@pytest.fixture
def other(url):
    """The URL of another user in the same virtual host."""
    name = f"{OTHER}-{URL(url).path[1:]}"
    rabbitmqctl("add_user", name, PASSWORD)
    rabbitmqctl("set_permissions", "-p", URL(url).path[1:], name, ".*", ".*", ".*")
    yield str(URL(url).with_user(name).with_password(PASSWORD))
    rabbitmqctl("delete_user", name)


@pytest.fixture
async def broker(url):
    async with RabbitBroker(url, now, checks_users=True) as opened:
        await opened.ready()
        yield opened


async def publish(url, *, user=None):
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        await channel.basic_publish(
            b"theirs", exchange="jobs", routing_key=TO_MAIN, properties=Basic.Properties(message_id="t", user_id=user)
        )


async def received(broker, count=1):
    async with broker.consume(Queue.MAIN, 10) as consumer:
        found = await take(consumer, count)
        for one in found:
            one.ack()
        return {one.body: one.is_foreign for one in found}


async def test_what_we_publish_is_ours_also_after_a_delay(broker):
    await broker.publish([Message(TO_MAIN, b"a"), Message(TO_RETRY, b"b", 10)])
    assert await received(broker, 2) == {b"a": False, b"b": False}


async def test_what_others_publish_is_foreign_with_their_name_or_without(url, broker, other):
    await publish(other, user=URL(other).user)
    assert await received(broker) == {b"theirs": True}
    await publish(other)
    assert await received(broker) == {b"theirs": True}


async def test_unless_it_is_asked_for_nobody_is_foreign(url, other):
    async with RabbitBroker(url, now) as broker:
        await broker.ready()
        await publish(other)
        assert await received(broker) == {b"theirs": False}


async def test_unless_somebody_asks_for_it_messages_do_not_say_who_has_published_them(url, other):
    """A server may know us by another name than the URL (OAuth 2, certificates), and would refuse each message."""
    async with RabbitBroker(other, now) as service, RabbitBroker(url, now, trusted_users=[URL(other).user], checks_users=True) as worker:
        await service.publish([Message(TO_MAIN, b"a")])
        assert await received(worker) == {b"a": True}


async def test_nobody_else_can_use_our_name(url, broker, other):
    with pytest.raises(AMQPError, match="user_id"):
        await publish(other, user=URL(url).user)
    assert await broker.depth(Queue.MAIN) == 0


async def test_another_service_of_ours_is_trusted_by_its_name(url, broker, other):
    async with (
        RabbitBroker(other, now, trusted_users=[URL(url).user]) as service,
        RabbitBroker(url, now, trusted_users=[URL(other).user], checks_users=True) as worker,
    ):
        await service.publish([Message(TO_MAIN, b"a")])
        assert await received(worker) == {b"a": False}
        await service.publish([Message(TO_MAIN, b"a")])
        assert await received(broker) == {b"a": True}


async def test_a_copy_of_a_foreign_message_stays_foreign(url, broker, other):
    await broker.publish([Message(Lane.DEMOTED.value, b"moved", is_foreign=True)])
    async with broker.consume(Queue.DEMOTED, 10) as consumer:
        (one,) = await take(consumer, 1)
        assert one.is_foreign
        one.ack()


async def test_a_copy_made_for_want_of_an_id_is_whose_its_original_is(url, broker, other):
    async with aiormq.connect(other) as connection:
        await (await connection.channel()).basic_publish(b"no id", exchange="jobs", routing_key=TO_MAIN)
    assert await received(broker) == {b"no id": True}
