"""The parts of the RabbitMQ adapter that need no server: settling, routes, properties, addresses."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from sickbay.adapters.rabbitmq.ack_batch import AckBatch
from sickbay.adapters.rabbitmq.address import Address
from sickbay.adapters.rabbitmq.properties import Users, copied, outgoing, received
from sickbay.adapters.rabbitmq.topology import BINDINGS, DELAY_HEADER, DELAY_QUEUES, DELAYS, EXCHANGES, QUEUES, RETRY_QUEUES, route
from sickbay.domain.errors import SettingsError
from sickbay.domain.lane import Lane
from sickbay.ports import LANES, TO_MAIN, TO_QUARANTINE, TO_RETRY, Message, Queue

DEFINITIONS = Path(__file__).parents[3] / "deploy" / "rabbitmq" / "definitions.json"


class Channel:
    """What RabbitMQ makes of acks and nacks; it closes the channel for a tag that is not open."""

    def __init__(self, tags):
        self.open = set(tags)
        self.acked = set()
        self.returned = []

    def hear(self, frame):
        assert frame.delivery_tag in self.open, "PRECONDITION_FAILED - unknown delivery tag"
        tags = {tag for tag in self.open if tag <= frame.delivery_tag} if frame.multiple else {frame.delivery_tag}
        self.open -= tags
        if isinstance(frame, Basic.Ack):
            self.acked |= tags
        else:
            assert frame.requeue
            self.returned += sorted(tags)


@given(st.permutations(range(1, 21)), st.sets(st.integers(1, 20)), st.lists(st.integers(1, 6), min_size=20, max_size=20))
def test_whatever_the_order_each_message_is_settled_once_and_as_asked(order, nacked, sizes):
    """At every moment just what was settled is settled, and what goes back together goes back oldest first."""
    settlements, channel, told = AckBatch(), Channel(order), set()
    while order:
        turn, order = order[: sizes[0]], order[sizes[0] :]
        sizes = sizes[1:] or [6]
        for tag in turn:
            (settlements.nack if tag in nacked else settlements.ack)(tag)
        told |= set(turn)
        before = len(channel.returned)
        for frame in settlements.frames():
            channel.hear(frame)
        assert channel.acked == told - nacked
        assert set(channel.returned) == told & nacked
        assert channel.returned[before:] == sorted(channel.returned[before:])
        assert settlements.told_after(0) == len(told)
        assert settlements.told_after(7) == sum(tag > 7 for tag in told)
    assert not channel.open
    assert settlements.frames() == []


def test_a_run_is_one_frame():
    settlements = AckBatch()
    for tag in range(100, 0, -1):
        settlements.ack(tag)
    assert [(frame.delivery_tag, frame.multiple) for frame in settlements.frames()] == [(100, True)]


@pytest.mark.parametrize(
    ("key", "delay_ms", "expected"),
    [
        (TO_MAIN, 0, ("jobs", "main")),
        (TO_QUARANTINE, 0, ("jobs", "quarantine")),
        ("job.succeeded", 0, ("jobs.events", "job.succeeded")),
        (TO_RETRY, 0, ("jobs", "main")),
        (TO_RETRY, 1, ("jobs", "retry")),
        (TO_RETRY, 10_000, ("jobs", "retry")),
        (TO_RETRY, 10_001, ("jobs", "retry.30s")),
        (TO_RETRY, 86_400_000, ("jobs", "retry.24h")),
        (TO_RETRY, 2**32 - 1, ("jobs", "retry.24h")),
        ("high", 0, ("jobs", "high")),
        ("demoted", 0, ("jobs", "demoted")),
        ("low", 0, ("jobs", "low")),
    ],
)
def test_routes(key, delay_ms, expected):
    assert tuple(route(key, delay_ms)) == (*expected, None)


@pytest.mark.parametrize(
    ("delay_ms", "expected"), [(0, ("jobs", "low", None)), (1, ("jobs.delays", "low", "10s")), (10_001, ("jobs.delays", "low", "30s"))]
)
def test_routes_back_to_another_lane(delay_ms, expected):
    assert tuple(route(TO_RETRY, delay_ms, Lane.LOW)) == expected


@pytest.mark.parametrize(("key", "delay_ms"), [("", 0), ("jobs.main", 0), ("job", 0), ("retry.30s", 5), (TO_RETRY, -1), (TO_RETRY, 2**32)])
def test_what_has_no_route(key, delay_ms):
    with pytest.raises(ValueError, match=r"no queue is bound|a delay must be"):
        route(key, delay_ms)


def test_every_route_is_bound_and_every_binding_exists():
    """Delays of every class end in a queue of ours that leads back to the main one."""
    queues = {queue.name: queue.arguments for queue in QUEUES}
    assert {binding.queue for binding in BINDINGS} == queues.keys() - {Queue.POOLS}, "nothing is ever published to what counts workers"
    assert {binding.exchange for binding in BINDINGS} == {exchange.name for exchange in EXCHANGES}
    direct = {(binding.exchange, binding.key): binding.queue for binding in BINDINGS}
    delays = (1, 20_000, 60_000, 300_000, 1_800_000, 7_200_000, 86_400_000)
    assert {direct[route(TO_RETRY, delay)[:2]] for delay in delays} == set(RETRY_QUEUES)
    classes = {binding.arguments[DELAY_HEADER]: binding.queue for binding in BINDINGS if binding.exchange == DELAYS}
    assert {classes[route(TO_RETRY, delay, Lane.LOW).delay_class] for delay in delays} == set(DELAY_QUEUES)
    for name in DELAY_QUEUES:
        assert queues[name]["x-dead-letter-exchange"] == "jobs"
        assert "x-dead-letter-routing-key" not in queues[name], "the message keeps its own, which names the lane"
    for longest in (30_000, 120_000, 600_000, 3_600_000, 21_600_000):
        assert route(TO_RETRY, longest) == route(TO_RETRY, longest * 6 // 5), "a delay and its jitter"
    for name in RETRY_QUEUES:
        assert (queues[name]["x-dead-letter-exchange"], queues[name]["x-dead-letter-routing-key"]) == ("jobs", "main")
    assert {lane: direct["jobs", lane.value] for lane in Lane} == LANES
    assert all(arguments["x-delivery-limit"] == 1_000_000 and arguments["x-queue-type"] == "quorum" for arguments in queues.values())


def test_our_messages_are_persistent_and_carry_no_history():
    headers = {"traceparent": "00", "x-death": "[]", "x-first-death-queue": "q", "x-last-death-reason": "r"}
    properties = outgoing(Message(TO_RETRY, b"", 1500, headers=headers), "id-1", 1_700_000_000_999)
    assert (properties.delivery_mode, properties.expiration, properties.message_id) == (2, "1500", "id-1")
    assert properties.headers == {"traceparent": "00"}
    assert properties.timestamp.timestamp() == 1_700_000_000


def test_a_copy_keeps_what_its_publisher_said_and_nothing_that_would_route_or_bind_it():
    theirs = Basic.Properties(
        content_type="text/plain",
        correlation_id="c",
        delivery_mode=1,
        expiration="5",
        user_id="guest",
        headers={"a": 1, "CC": ["jobs.ledger"], "BCC": ["x"], "x-death": [], "x-delivery-count": 3},
    )
    copy = copied(theirs, "id", Users("us"))
    assert (copy.content_type, copy.correlation_id, copy.message_id, copy.delivery_mode) == ("text/plain", "c", "id", 2)
    assert (copy.expiration, copy.user_id, copy.headers) == (None, None, {"a": 1})
    assert theirs.headers["CC"] == ["jobs.ledger"]


def test_headers_come_back_as_they_were_published():
    ours_and_the_brokers = {"a": "x", "n": 1, "x-delivery-count": 2, "x-acquired-count": 1, "x-first-death-queue": "q"}
    assert dict(received(ours_and_the_brokers)) == {"a": "x", "n": "1"}
    assert dict(received(None)) == {}


@pytest.mark.parametrize(
    ("text", "where", "vhost", "user"),
    [
        ("amqp://guest:guest@localhost:5672", "localhost:5672", "/", "guest"),
        ("amqp://rabbit", "rabbit:5672", "/", "guest"),
        ("amqps://me:s%40cret@rabbit/prod", "rabbit:5671", "prod", "me"),
        ("amqp://me:x@rabbit:1/%2Fdeep", "rabbit:1", "/deep", "me"),
    ],
)
def test_addresses(text, where, vhost, user):
    address = Address.parse(text)
    assert (address.where, address.vhost, address.user) == (where, vhost, user)
    assert "cret" not in repr(address)
    assert address.connecting(10).query["heartbeat"] == "10"


def test_a_heartbeat_in_the_url_wins():
    address = Address.parse("amqp://rabbit?heartbeat=3")
    assert (address.connecting(10).query["heartbeat"], address.heartbeat(10)) == ("3", 3)


@pytest.mark.parametrize("url", ["", "localhost", "http://localhost", "amqp://", "amqp://host:port"])
def test_a_url_that_is_none_is_refused_at_once(url):
    with pytest.raises(SettingsError, match="RABBITMQ_URL must be like"):
        Address.parse(url)


def test_the_definitions_file_has_our_topology():
    definitions = json.loads(DEFINITIONS.read_text())
    assert [(one["name"], one["type"], one["durable"]) for one in definitions["exchanges"]] == [(e.name, e.kind, True) for e in EXCHANGES]
    assert [(one["name"], one["arguments"], one["durable"]) for one in definitions["queues"]] == [
        (queue.name, dict(queue.arguments), True) for queue in QUEUES
    ]
    bindings = [(one["source"], one["routing_key"], one["destination"], one["arguments"]) for one in definitions["bindings"]]
    assert bindings == [(*binding[:3], dict(binding.arguments)) for binding in BINDINGS]
