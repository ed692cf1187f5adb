"""The broker on RabbitMQ outlives its connections, and tells clearly what is wrong with a server or with RABBITMQ_URL."""

import asyncio
import logging
import secrets

import aiormq
import pytest
from yarl import URL

from sickbay.adapters.rabbitmq import publisher as publisher_module
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.domain.errors import SettingsError, Unavailable
from sickbay.ports import Queue
from tests.support.broker_backends import now
from tests.support.broker_messages import bodies, jobs, take
from tests.support.faults.proxy import Proxy
from tests.support.rabbitmq_helpers import depth_is, drain, publish_at_last, through
from tests.support.rabbitmq_server import SERVER, rabbitmqctl

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]


@pytest.fixture
async def proxy(url):
    async with Proxy.before(url) as running:
        yield running


async def test_a_reset_in_the_middle_of_publishing_loses_nothing_that_was_confirmed(url, proxy):
    confirmed, failed = set(), set()

    async def publish(broker, name):
        try:
            await broker.publish(jobs(name))
        except Unavailable:
            failed.add(name)
        else:
            confirmed.add(name)

    async with through(proxy, url) as broker:
        await broker.ready()
        await broker.publish(jobs("first"))
        proxy.reset_after(20_000)
        await asyncio.gather(*(publish(broker, str(n)) for n in range(300)))
        assert failed
        await broker.publish(jobs("last"))
    found = await drain(url)
    assert confirmed | {"first", "last"} <= found.keys()


async def test_a_reset_while_consuming_brings_back_what_was_in_our_hands(url, proxy):
    """`get` just goes on; the deliveries of the old session settle nothing any more."""
    async with through(proxy, url) as broker:
        await broker.ready()
        await broker.publish(jobs(*"abcd"))
        async with broker.consume(Queue.MAIN, 3) as consumer:
            old = await take(consumer, 3)
            old[0].ack()
            assert bodies(await take(consumer, 1)) == ["d"]
            waiting = asyncio.create_task(consumer.get(10))
            proxy.reset()
            again = list(await waiting)
            again += await take(consumer, 3 - len(again))
            assert {d.body.decode(): d.redelivered for d in again} == {"b": True, "c": True, "d": True}
            assert [delivery.is_lost for delivery in (*old, *again)] == [True] * 3 + [False] * 3
            for delivery in old[1:]:
                delivery.ack()
                delivery.nack()
            await broker.publish(jobs("e"))
            for delivery in again:
                delivery.ack()
            assert bodies(await take(consumer, 1)) == ["e"]
    assert await drain(url) == {"e": True}


async def test_many_resets_while_everything_goes_on(url, proxy):
    """Nothing confirmed is lost, every message is acked at last, and both connections come back each time."""
    names = {str(n) for n in range(200)}
    left = set(names)
    everything = asyncio.Event()

    async def publish(broker):
        for name in names:
            await publish_at_last(broker, jobs(name))

    async def consume(consumer):
        while deliveries := await consumer.get(20):
            for delivery in deliveries:
                left.discard(delivery.body.decode())
                delivery.ack()
            if not left:
                everything.set()

    async with through(proxy, url) as broker, broker.consume(Queue.MAIN, 50) as consumer:
        await broker.ready()
        working = asyncio.create_task(consume(consumer))
        publishing = asyncio.create_task(publish(broker))
        for seen in (2, 4, 6):
            await proxy.until(lambda proxy, seen=seen: proxy.accepted >= seen and proxy.connections == 2)
            proxy.reset()
        await publishing
        await everything.wait()
        await consumer.stop()
        await working


async def test_a_silent_server_makes_publishing_unavailable_until_it_speaks_again(url, proxy):
    async with through(proxy, url, timeout_s=0.3) as broker:
        await broker.ready()
        proxy.blackhole()
        with pytest.raises(Unavailable, match="timed out"):
            await broker.publish(jobs("a"))
        with pytest.raises(Unavailable, match="timed out"):
            await broker.depth(Queue.MAIN)
        proxy.heal()
        await publish_at_last(broker, jobs("b"))
    assert "b" in await drain(url)


async def test_a_connection_that_went_silent_is_replaced(url, proxy):
    async with through(proxy, url, heartbeat_s=1) as broker:
        await broker.ready()
        before = proxy.accepted
        proxy.blackhole()
        await proxy.until(lambda proxy: proxy.accepted > before)
        proxy.heal()
        await broker.publish(jobs("a"))


async def test_a_question_that_is_broken_off_costs_nobody_the_session(url, proxy):
    """A client that hangs up while a depth is asked for must not make every consumer begin anew."""
    async with through(proxy, url) as broker:
        await broker.ready()
        session = broker._consuming.current
        proxy.blackhole()
        asking = asyncio.create_task(broker.depth(Queue.RETRY))
        for _ in range(10):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        proxy.heal()
        assert await broker.depth(Queue.RETRY) == 0
        assert broker._consuming.current is session


async def test_a_server_that_appears_later(url, proxy, caplog):
    """Nobody needs to wait for it at the start; what is asked meanwhile fails in time, and consumers begin by themselves."""
    proxy.refuse()
    async with through(proxy, url, timeout_s=0.2) as broker, broker.consume(Queue.MAIN, 10) as consumer:
        with pytest.raises(Unavailable):
            await broker.publish(jobs("a"))
        with pytest.raises(Unavailable):
            await broker.depth(Queue.MAIN)
        assert not broker.is_ready
        waiting = asyncio.create_task(consumer.get(1))
        await proxy.accept()
        await broker.ready()
        assert broker.is_ready
        await broker.publish(jobs("b"))
        assert bodies(await waiting) == ["b"]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"RabbitMQ (publishing): connection refused by RabbitMQ at 127.0.0.1:{proxy.port}; retrying" in lines


async def test_closing_does_not_wait_for_a_server_that_is_not_there(url, proxy):
    proxy.refuse()
    async with through(proxy, url) as broker:
        waiting = asyncio.create_task(broker.publish(jobs("a")))
        ready = asyncio.create_task(broker.ready())
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await ready


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.with_password("hunter2"), "authentication failed for user 'guest' at "),
        (
            lambda url: url.with_path("/nowhere"),
            "has no virtual host 'nowhere', or access to it is refused for user 'guest'",
        ),
        (lambda url: url.with_scheme("amqps"), "does not support TLS on this port"),
        (lambda url: url.with_scheme("amqps").with_query(cafile="/nowhere/ca.pem"), "a file that RABBITMQ_URL names"),
    ],
)
async def test_a_url_that_must_be_corrected_is_told_in_one_sentence(url, caplog, change, words):
    wrong = str(change(URL(url).with_port(SERVER.port or 5672)))
    async with RabbitBroker(wrong, now, timeout_s=0.3) as broker:
        with pytest.raises(SettingsError, match=words) as caught:
            await broker.ready()
        with pytest.raises(Unavailable):
            await broker.publish(jobs("a"))
    assert "hunter2" not in str(caught.value) + caplog.text


async def test_a_blocked_connection_is_unavailable_at_once_and_acks_go_on(broker):
    """The server's memory alarm cannot be provoked for one test alone; the frame it sends can."""
    await broker.publish(jobs("a", "b"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        held = await take(consumer, 2)
        connection = broker._publishing.current.connection
        await connection._Connection__handle_connection_blocked(aiormq.spec.Connection.Blocked("low on memory"))
        with pytest.raises(Unavailable, match="blocks publishers") as caught:
            await broker.publish(jobs("c"))
        assert caught.value.retry_after > 1
        for delivery in held:
            delivery.ack()
        await depth_is(broker, Queue.MAIN, 0)
        await connection._Connection__handle_connection_unblocked(aiormq.spec.Connection.Unblocked())
        await broker.publish(jobs("d"))
        assert bodies(await take(consumer, 1)) == ["d"]


async def test_publishes_in_flight_are_told_when_the_connection_gets_blocked(url, proxy):
    async with through(proxy, url) as broker:
        await broker.ready()
        proxy.blackhole()
        waiting = asyncio.create_task(broker.publish(jobs("a")))
        connection = broker._publishing.current.connection
        await asyncio.sleep(0)
        await connection._Connection__handle_connection_blocked(aiormq.spec.Connection.Blocked("low on memory"))
        with pytest.raises(Unavailable, match="blocks publishers"):
            await waiting
        proxy.heal()


async def test_two_connections_with_names_for_people(url):
    name = f"worker-{secrets.token_hex(4)}"
    async with RabbitBroker(url, now, name=name) as broker:
        await broker.ready()
        listed = rabbitmqctl("-q", "list_connections", "client_properties", "vhost")
        assert sorted(line for line in (f"{name} (consuming)", f"{name} (publishing)") if line in listed) == [
            f"{name} (consuming)",
            f"{name} (publishing)",
        ]
        assert listed.count(name) == 2


async def trouble_is(broker, words):
    async with asyncio.timeout(30):
        while words not in broker.trouble if words else broker.trouble:
            await asyncio.sleep(0.01)


async def test_trouble_says_why_messages_do_not_go_through(url, proxy):
    async with through(proxy, url) as broker:
        await broker.ready()
        assert not broker.trouble
        proxy.cut()
        await trouble_is(broker, "RabbitMQ is unavailable")
        await proxy.accept()
        await trouble_is(broker, "")
    async with RabbitBroker(str(URL(url).with_password("wrong")), now) as refused:
        await trouble_is(refused, "RabbitMQ rejects the user, password, virtual host or certificate of RABBITMQ_URL")


async def test_a_queue_that_is_gone_is_trouble_after_two_publishes(url, broker):
    await broker.ready()
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(Queue.MAIN.value)
    for number in range(2):
        assert not broker.trouble
        with pytest.raises(Unavailable, match="has lost a queue or a binding"):
            await broker.publish(jobs(str(number)))
    assert broker.trouble == "RabbitMQ has lost a queue or a binding; `sickbay topology apply` brings it back"


async def test_an_idle_process_finds_out_that_it_is_blocked_or_not_heard(url, proxy, monkeypatch):
    """RabbitMQ says that it is out of memory only to those who publish; what is published for that reaches nobody."""
    monkeypatch.setattr(publisher_module, "TRY_S", 0.01)
    tried = asyncio.Event()
    async with RabbitBroker(proxy.through(url), now, timeout_s=0.2) as broker:
        await broker.ready()
        heard = broker._publisher._heard
        monkeypatch.setattr(broker._publisher, "_heard", lambda *given: (heard(*given), tried.set()))
        async with asyncio.timeout(30):
            await tried.wait()
        assert not broker.trouble
        assert [await broker.depth(queue) for queue in Queue] == [0] * len(Queue)
        proxy.blackhole()
        await trouble_is(broker, "RabbitMQ timed out")
        proxy.heal()
        await trouble_is(broker, "")
