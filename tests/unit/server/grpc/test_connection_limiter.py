"""Whom a port that is too full lets go: never the peer that has little, and whoever came first stays."""

import asyncio
import socket

import pytest
from prometheus_client import CollectorRegistry

from sickbay.domain.limits import Limits
from sickbay.server.grpc import connection_limiter as limiter_module
from sickbay.server.grpc import sockets
from sickbay.server.grpc.connection_limiter import ConnectionLimiter
from sickbay.server.grpc.guard import CallGuard
from sickbay.server.grpc.meter import GrpcMeter
from sickbay.server.grpc.sockets import Connection
from sickbay.server.peers import endpoint_of, peer_of
from sickbay.server.watches import Watches
from tests.support.waiting import until

MIB = 1024 * 1024


class Stub(CallGuard):
    is_received = True


class Port:
    """A port whose connections are said, and of which those that were cut are known."""

    def __init__(self, *, is_encrypted=False, **limits):
        self.registry, self.now, self.cut, self.time = CollectorRegistry(), {}, [], 0.0
        bounds, meter = Limits(**limits), GrpcMeter(self.registry)
        self.guard = Stub(bounds, Watches(9, 9), meter)
        self.limiter = ConnectionLimiter(
            bounds,
            self.guard,
            meter,
            look=lambda _: self.found(),
            cut=self.ends,
            clock=lambda: self.time,
            is_encrypted=is_encrypted,
        )

    def found(self):
        return [Connection(number, endpoint, received) for number, (endpoint, received) in enumerate(self.now.items())]

    def ends(self, connection):
        self.cut.append(connection.endpoint)
        del self.now[connection.endpoint]

    def look(self):
        self.limiter.look(1)

    def refused(self, reason):
        return self.registry.get_sample_value("sickbay_grpc_refused_total", {"reason": reason})


def _of(host, *ports):
    return {(host, port): 0 for port in ports}


def test_a_peer_with_too_many_loses_its_newest():
    port = Port(connections=100, connections_per_peer=3)
    port.now = _of("10.0.0.1", 9, 8)
    port.look()
    port.now |= _of("10.0.0.1", 1, 2, 3) | _of("10.0.0.2", 1)
    port.look()
    assert sorted(port.now) == [("10.0.0.1", 1), ("10.0.0.1", 8), ("10.0.0.1", 9), ("10.0.0.2", 1)]
    assert port.refused("peer_connections") == 2
    assert len(port.limiter) == 4


def test_who_does_not_speak_http2_in_time_is_closed():
    """Silent ones, and those that send a byte now and then; not those of a system that does not count bytes."""
    port = Port(handshake_s=10)
    silent, slow, client, uncounted = (("10.0.0.1", number) for number in range(4))
    port.now = {silent: 0, slow: 1, client: 0, uncounted: -1}
    port.look()
    port.time += 9.9
    port.now |= {slow: 12, client: 33}
    port.look()
    assert port.cut == []
    port.time += 0.1
    port.look()
    assert port.cut == [silent, slow]
    assert port.refused("handshake") == 2


def test_a_full_port_takes_from_who_has_the_most():
    port = Port(connections=4, connections_per_peer=4)
    port.now = _of("10.0.0.1", 1, 2, 3, 4)
    port.look()
    port.now |= _of("10.0.0.2", 1, 2)
    port.look()
    assert sorted(port.now) == [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.2", 1), ("10.0.0.2", 2)]
    assert port.refused("connections") == 2


def test_one_network_of_ipv6_is_one_peer():
    port = Port(connections=100, connections_per_peer=2)
    port.now = {(f"2001:db8::{number:x}", 1): 0 for number in range(5)} | {("2001:db8:0:1::1", 1): 0}
    port.look()
    assert len(port.now) == 3


def test_what_was_completed_is_not_unfinished():
    port = Port(body_buffer_bytes=64 * MIB)
    port.now = _of("10.0.0.1", 1) | _of("10.0.0.2", 1)
    for _ in range(50):
        port.now[("10.0.0.1", 1)] += 16 * MIB
        port.guard.on_message(("10.0.0.1", 1), 16 * MIB)
        port.now[("10.0.0.2", 1)] += 1 * MIB
        port.look()
    assert port.cut == []


def test_who_has_the_most_unfinished_goes_and_no_other():
    port = Port(body_buffer_bytes=64 * MIB)
    port.now = _of("10.0.0.1", 1, 2) | _of("10.0.0.2", 1)
    port.look()
    port.now = {("10.0.0.1", 1): 40 * MIB, ("10.0.0.1", 2): 30 * MIB, ("10.0.0.2", 1): 2 * MIB}
    port.look()
    assert port.cut == [("10.0.0.1", 1)]
    assert port.refused("body_room") == 1


def test_small_calls_do_not_hide_what_is_unfinished():
    port = Port(body_buffer_bytes=64 * MIB)
    port.now = _of("10.0.0.1", 1)
    for _ in range(80):
        port.now[("10.0.0.1", 1)] = port.now.get(("10.0.0.1", 1), 0) + MIB
        port.guard.on_message(("10.0.0.1", 1), 100)
        port.look()
        if port.cut:
            return
    pytest.fail("80 MiB are unfinished")


def test_a_message_that_is_completed_during_a_check_counts_for_the_next_one():
    """Otherwise its bytes would never be seen as completed, or those of another message would be."""
    one, port = ("10.0.0.1", 1), Port(body_buffer_bytes=64 * MIB)
    port.now = {one: 10 * MIB}
    for _ in range(20):
        check = port.limiter._check(1)
        next(check)
        port.guard.on_message(one, 8 * MIB)
        assert list(check) == []
        port.now[one] += 8 * MIB
    assert port.cut == []
    port.now[one] += 60 * MIB
    port.look()
    assert port.cut == [one]


def test_a_connection_that_is_cut_during_a_check_is_not_found_by_it():
    one, port = ("10.0.0.1", 1), Port()
    port.now = _of("10.0.0.1", 1, 2)
    port.look()
    check = port.limiter._check(1)
    next(check)
    port.guard.cut(one)
    assert list(check) == [None]
    assert (port.cut, len(port.limiter)) == ([one], 1)


def test_messages_of_connections_that_are_gone_are_forgotten():
    port = Port()
    for number in range(5):
        port.guard.on_message(("10.0.0.1", number), 1)
    port.look()
    assert not port.limiter._completed


async def test_a_check_of_thousands_gives_way_to_others(monkeypatch):
    port, now = Port(connections=9000, connections_per_peer=9000), [0.0]

    def found(_):
        for number in range(5000):
            now[0] += limiter_module.SLICE_S / 100
            yield Connection(number, ("10.0.0.1", number), 0)

    monkeypatch.setattr(limiter_module, "monotonic", lambda: now[0])
    monkeypatch.setattr(limiter_module, "SLICE_REST_S", 0)
    port.limiter._look = found
    checking, turns = asyncio.create_task(port.limiter._look_in_slices(1)), 0
    while not checking.done():
        await asyncio.sleep(0)
        turns += 1
    assert (len(port.limiter), turns >= 49) == (5000, True)


def test_a_process_that_can_open_no_file_says_so(caplog):
    port = Port()

    def look(_):
        raise OSError

    crowd = ConnectionLimiter(Limits(), port.guard, GrpcMeter(CollectorRegistry()), look=look)
    crowd.look(1)
    crowd.look(1)
    assert len([record for record in caplog.records if "ulimit -n" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("peer", "endpoint", "counted_as"),
    [
        ("ipv4:10.0.0.1:50000", ("10.0.0.1", 50000), "10.0.0.1"),
        ("ipv6:%5B::1%5D:50000", ("::1", 50000), "::/64"),
        ("ipv6:[2001:db8::5]:1", ("2001:db8::5", 1), "2001:db8::/64"),
        ("ipv6:[::ffff:10.0.0.1]:1", ("10.0.0.1", 1), "10.0.0.1"),
        ("in-process", ("", 0), ""),
        ("unix:/run/x", ("", 0), ""),
    ],
)
def test_who_calls(peer, endpoint, counted_as):
    assert endpoint_of(peer) == endpoint
    assert peer_of(endpoint[0]) == counted_as


async def test_sockets_of_somebody_else_are_found_and_cut():
    left = asyncio.Event()

    async def serve(reader, writer):
        await reader.read()
        left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(bytes(1000))
        await asyncio.to_thread(until, lambda: [one.received for one in sockets.connections(port)] == [1000])
        (found,) = sockets.connections(port)
        assert found.endpoint == client.getsockname()
        sockets.cut(found._replace(endpoint=("127.0.0.1", 1)))
        assert [(one.endpoint, one.received) for one in sockets.connections(port)] == [(found.endpoint, 1000)]
        sockets.cut(found)
        async with asyncio.timeout(20):
            await left.wait()
    server.close()
    await server.wait_closed()


def test_what_tls_adds_to_many_large_messages_is_not_unfinished():
    port = Port(is_encrypted=True, body_buffer_bytes=16 * MIB)
    endpoint = ("10.0.0.1", 1)
    port.now = {endpoint: 0}
    port.look()
    for _ in range(200):
        port.guard.on_message(endpoint, 15 * MIB)
        port.now[endpoint] += 15 * MIB + 15 * MIB // 1_400 * 29 + 1_000
        port.look()
    assert port.cut == []
    port.now[endpoint] += 17 * MIB
    port.look()
    assert port.cut == [endpoint]
