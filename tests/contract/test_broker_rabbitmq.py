"""What the broker on RabbitMQ promises beyond the contract: it outlives connections, and tells clearly what is wrong with a server."""

import asyncio
import base64
import json
import logging
import os
import secrets
import ssl
import subprocess
from pathlib import Path

import aio_pika
import aiormq
import pytest
from click.testing import CliRunner
from yarl import URL

from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.adapters.rabbitmq.topology import BINDINGS, EXCHANGES, QUEUES
from sickbay.errors import SettingsError, Unavailable
from sickbay.ports import TO_MAIN, TO_RETRY, Message, Queue
from sickbay_cli.topology import topology
from tests.contract.broker_backends import now
from tests.contract.rabbitmq_server import SERVER, empty, make_vhost, rabbitmqctl, vhost
from tests.faults.proxy import Proxy

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]
DEFINITIONS = Path(__file__).parents[2] / "deploy" / "rabbitmq" / "definitions.json"


@pytest.fixture
async def url():
    await empty(vhost())
    return vhost()


@pytest.fixture
async def broker(url):
    async with RabbitBroker(url, now) as opened:
        await opened.ready()
        yield opened


@pytest.fixture
async def proxy():
    async with Proxy(SERVER.host, SERVER.port or 5672) as running:
        yield running


def through(proxy, url, **more):
    return RabbitBroker(str(URL(url).with_host("127.0.0.1").with_port(proxy.port)), now, **more)


def jobs(*names, key=TO_MAIN, **more):
    return [Message(key, name.encode(), **more) for name in names]


def bodies(deliveries):
    return [delivery.body.decode() for delivery in deliveries]


async def take(consumer, count):
    deliveries = []
    while len(deliveries) < count:
        deliveries += await consumer.get(count - len(deliveries))
    return deliveries


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
            while True:
                try:
                    await broker.publish(jobs(name))
                except Unavailable:
                    continue
                break

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
        with pytest.raises(Unavailable, match="did not answer in time"):
            await broker.publish(jobs("a"))
        with pytest.raises(Unavailable, match="did not answer in time"):
            await broker.depth(Queue.MAIN)
        proxy.heal()
        while True:
            try:
                await broker.publish(jobs("b"))
            except Unavailable:
                continue
            break
    assert "b" in await drain(url)


async def test_a_connection_that_went_silent_is_replaced(url, proxy):
    async with through(proxy, url, heartbeat_s=1) as broker:
        await broker.ready()
        assert proxy.accepted == 2
        proxy.blackhole()
        await proxy.until(lambda proxy: proxy.accepted > 2)
        proxy.heal()
        await broker.publish(jobs("a"))


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
    assert f"RabbitMQ (publishing): nothing listens at 127.0.0.1:{proxy.port}; trying again until it works" in lines


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
        (lambda url: url.with_password("hunter2"), "refuses the user 'guest' or the password of RABBITMQ_URL"),
        (lambda url: url.with_path("/nowhere"), "has no virtual host 'nowhere', or does not open it to the user 'guest' of RABBITMQ_URL"),
        (lambda url: url.with_scheme("amqps"), "does not speak TLS as RABBITMQ_URL asks"),
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


@pytest.mark.parametrize("url", ["", "localhost", "http://localhost", "amqp://", "amqp://host:port"])
def test_a_url_that_is_none_is_refused_at_once(url):
    with pytest.raises(SettingsError, match="RABBITMQ_URL must be like"):
        RabbitBroker(url, now)


async def test_tls_with_an_authority_of_our_own(url, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate, *subject]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with Proxy(SERVER.host, SERVER.port or 5672, tls=context) as proxy:
        secure = URL(url).with_scheme("amqps").with_host("localhost").with_port(proxy.port)
        async with RabbitBroker(str(secure.update_query(cafile=str(certificate))), now) as broker:
            await broker.ready()
            await broker.publish(jobs("a"))
        async with RabbitBroker(str(secure), now) as broker:
            with pytest.raises(SettingsError, match=r"certificate of RabbitMQ at localhost:.* cannot be verified"):
                await broker.ready()
    assert await drain(url) == {"a": False}


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
        while True:
            try:
                await broker.publish(jobs("b"))
            except Unavailable:
                continue
            break
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


async def test_a_message_given_back_twice_goes_to_another_consumer(broker):
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as one, broker.consume(Queue.MAIN, 1) as two:
        consumers = {asyncio.create_task(one.get(1)), asyncio.create_task(two.get(1))}
        seen = 0
        while seen < 6:
            done, consumers = await asyncio.wait(consumers, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                for delivery in await task:
                    assert delivery.redelivered is (seen > 0)
                    seen += 1
                    delivery.nack()
                    consumers.add(asyncio.create_task((one if delivery.subscription is one._subscription else two).get(1)))
        for task in consumers:
            task.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)


async def test_a_blocked_connection_is_unavailable_at_once_and_acks_go_on(broker):
    """The server's memory alarm cannot be provoked for one test alone; the frame it sends can."""
    await broker.publish(jobs("a", "b"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        held = await take(consumer, 2)
        connection = broker._publishing.current.connection
        await connection._Connection__handle_connection_blocked(aiormq.spec.Connection.Blocked("low on memory"))
        with pytest.raises(Unavailable, match="out of memory or disk") as caught:
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
        with pytest.raises(Unavailable, match="out of memory or disk"):
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


def run_topology(url, *arguments):
    return CliRunner().invoke(topology, arguments, env={"RABBITMQ_URL": url})


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


async def test_topology_check_and_apply(url):
    """A missing queue and one with other arguments are told; apply makes what is missing and touches nothing else."""
    assert (await in_thread(run_topology, url, "apply")).output.startswith("created jobs, jobs.events, jobs.main")
    assert (await in_thread(run_topology, url, "check")).output == "everything is as it should be\n"
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete("jobs.ledger")
        await channel.queue_delete("jobs.quarantine")
        await channel.queue_declare("jobs.quarantine", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 20})
    checked = await in_thread(run_topology, url, "check")
    assert checked.exit_code == 1
    assert "jobs.ledger      is missing" in checked.output
    assert "jobs.quarantine  has x-delivery-limit 20 instead of 1000000" in checked.output
    assert json.loads((await in_thread(run_topology, url, "check", "--json")).stdout)["status"] == "drift"
    assert "other arguments" in (await in_thread(run_topology, url, "apply")).output
    async with aiormq.connect(url) as connection:
        await (await connection.channel()).queue_delete("jobs.quarantine")
    applied = await in_thread(run_topology, url, "apply", "--json")
    assert json.loads(applied.stdout) == {"created": ["jobs.quarantine", "jobs.ledger"]} or applied.exit_code == 0
    assert (await in_thread(run_topology, url, "check")).exit_code == 0
    assert (await in_thread(run_topology, url, "apply")).output == "everything was there already\n"


async def test_apply_brings_a_lost_binding_back(url, broker):
    async with aiormq.connect(url) as connection:
        await (await connection.channel()).queue_unbind("jobs.main", "jobs", TO_MAIN)
    assert (await in_thread(run_topology, url, "apply")).exit_code == 0
    await broker.publish(jobs("a"))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda url: url.with_password("hunter2"), 1, "refuses the user"),
        (lambda url: url.with_port(1), 4, "nothing listens at"),
        (lambda url: url.with_scheme("http"), 1, "RABBITMQ_URL must begin with amqp:// or amqps://"),
    ],
)
async def test_topology_tells_what_is_wrong_in_one_sentence(url, change, code, words):
    result = await in_thread(run_topology, str(change(URL(url))), "check")
    assert result.exit_code == code
    assert words in result.output
    assert "hunter2" not in result.output


def test_the_definitions_file_has_our_topology():
    definitions = json.loads(DEFINITIONS.read_text())
    assert [(one["name"], one["type"], one["durable"]) for one in definitions["exchanges"]] == [(e.name, e.kind, True) for e in EXCHANGES]
    assert [(one["name"], one["arguments"], one["durable"]) for one in definitions["queues"]] == [
        (queue.name, dict(queue.arguments), True) for queue in QUEUES
    ]
    assert [(one["source"], one["routing_key"], one["destination"]) for one in definitions["bindings"]] == [tuple(b) for b in BINDINGS]


@pytest.fixture(scope="module")
def defined():
    """The URL of a virtual host made from the definitions file, by user; the users have other names, for they belong to the server."""
    name = f"sickbay-test-defined-{os.getpid()}"
    url = URL(make_vhost(name))
    definitions = json.loads(DEFINITIONS.read_text().replace('"/"', f'"{name}"'))
    users = {user["name"]: f"{name}-{user['name']}" for user in definitions["users"]}
    for one in definitions["users"]:
        one["name"] = users[one["name"]]
    for one in definitions["permissions"]:
        one["user"] = users[one["user"]]
    # `import_definitions` reads files of the server's machine, and its standard input not in every version.
    raw = base64.b64encode(json.dumps(definitions).encode()).decode()
    rabbitmqctl("eval", f'ok = rabbit_definitions:import_raw(base64:decode("{raw}")).')
    yield {who: str(url.with_user(user).with_password(f"CHANGE_ME_{who}")) for who, user in users.items()} | {"admin": str(url)}
    for user in users.values():
        rabbitmqctl("delete_user", user)


async def test_the_definitions_leave_nothing_to_apply(defined):
    assert (await in_thread(run_topology, defined["admin"], "check")).output == "everything is as it should be\n"


@pytest.mark.parametrize(
    ("who", "readable"),
    [("jobapi", set()), ("worker", {Queue.MAIN}), ("keeper", {Queue.MAIN, Queue.QUARANTINE, Queue.LEDGER})],
)
async def test_users_may_do_their_work_and_no_more(defined, who, readable):
    """All may publish and look, none may configure, each reads its own queues only."""
    async with RabbitBroker(defined[who], now) as broker:
        await broker.ready()
        await broker.publish([Message(TO_MAIN, b"a"), Message("job.quarantined.parked", b"b"), Message(TO_RETRY, b"c", 60_000)])
        assert await broker.depth(Queue.RETRY) >= 1
        for queue in readable:
            async with broker.consume(queue, 1) as consumer:
                await take(consumer, 1)
    async with aiormq.connect(defined[who]) as connection:
        for queue in {Queue.MAIN, Queue.QUARANTINE, Queue.LEDGER} - readable:
            with pytest.raises(aiormq.ChannelAccessRefused):
                await (await connection.channel()).basic_consume(queue.value, print)
    checked = await in_thread(run_topology, defined[who], "check")
    assert (checked.exit_code, "no permission to configure" in checked.output) == (1, True)
