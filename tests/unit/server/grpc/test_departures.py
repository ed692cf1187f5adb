"""Second descriptors: whose they are, how many, and what is counted of those that are gone."""

import socket

import pytest
from prometheus_client import CollectorRegistry

from sickbay.domain.limits import Limits
from sickbay.server.grpc import sockets
from sickbay.server.grpc.departures import Departures
from sickbay.server.grpc.meter import GrpcMeter
from sickbay.server.grpc.sockets import Connection
from tests.support.waiting import until

PING, IDLE, TOO_MANY = 17, 32, 31


class Port:
    """A port whose connections are said; it is its own source of second descriptors."""

    def __init__(self, **limits):
        self.registry, self.time, self.now, self.held, self.ended = CollectorRegistry(), 0.0, {}, {}, {}
        self.departures = Departures(Limits(**limits), GrpcMeter(self.registry), lambda: self.time, self)

    def hold(self, connection):
        number = 1_000 + connection.endpoint[1]
        self.held[number] = connection.endpoint
        return number

    def read(self, held, endpoint):
        assert self.held[held] == endpoint
        return self.ended[endpoint]

    def release(self, held):
        del self.held[held]

    def add(self, *ports):
        for port in ports:
            self.now["10.0.0.1", port] = Connection(port, ("10.0.0.1", port), 195, 226)

    def exchange(self, port, received, sent):
        known = self.now["10.0.0.1", port]
        self.now["10.0.0.1", port] = known._replace(received=known.received + received, sent=known.sent + sent)

    def end(self, port, received, sent):
        self.exchange(port, received, sent)
        self.ended["10.0.0.1", port] = self.now.pop(("10.0.0.1", port))

    def look(self, seconds=1.0, *, calls=(), is_open=()):
        self.time += seconds
        self.departures.look(self.now, {("10.0.0.1", port) for port in calls}, {("10.0.0.1", port) for port in is_open})

    def refused(self, reason):
        return self.registry.get_sample_value("sickbay_grpc_refused_total", {"reason": reason})

    @property
    def watched(self):
        return sorted(port for _, port in self.held.values())


def test_connections_that_core_closed_are_counted_and_others_are_not():
    port = Port(idle_s=10)
    port.add(1, 2, 3)
    port.look()
    port.look(9, is_open=[3])
    port.end(1, 1, IDLE)
    port.end(2, 1, 0)
    port.end(3, 1, IDLE)
    port.look()
    assert port.refused("idle") == 1
    assert port.held == {}


def test_what_we_close_ourselves_and_what_a_stop_closes_is_not_counted():
    port = Port(idle_s=10)
    port.add(1, 2)
    port.look()
    port.look(9)
    port.departures.forget(("10.0.0.1", 1))
    assert port.watched == [2]
    port.departures.end()
    assert port.held == {}
    port.end(1, 1, IDLE)
    port.end(2, 1, IDLE)
    port.look()
    assert port.refused("idle") == 0


def test_second_descriptors_are_few_and_go_to_those_at_risk():
    port = Port(connections=8, ping_interval_s=10)
    port.add(1, 2, 3)
    port.look()
    assert port.watched == [1, 2]
    assert port.departures.is_held(1_001)
    assert not port.departures.is_held(1)
    for _ in range(2):
        port.exchange(3, PING, PING)
        port.look()
    assert port.watched == [2, 3]
    port.end(3, PING, PING + TOO_MANY)
    port.look()
    assert port.refused("pings") == 1
    assert 3 not in port.watched


def test_a_port_that_is_used_again_is_another_connection():
    port = Port(idle_s=10)
    port.add(1)
    port.look()
    port.exchange(1, 100, 100)
    port.look(8)
    port.add(1)
    port.look()
    port.end(1, 1, IDLE)
    port.look()
    assert port.refused("idle") == 0
    assert port.held == {}


def test_calls_that_core_rejected_are_counted_once():
    port = Port()
    port.add(1, 2)
    port.look()
    for number in (1, 2):
        port.departures.note_unreceived(("10.0.0.1", number))
    port.look(0.1)
    port.exchange(1, 10, 168)
    port.end(2, 1, 168)
    port.look()
    port.look()
    assert port.refused("oversize") == 2
    assert port.refused("pings") == 0


def test_a_flood_of_cancelled_calls_is_noted_up_to_a_number():
    port = Port()
    for number in range(1_000):
        port.departures.note_unreceived(("10.0.0.1", number))
    assert len(port.departures._unreceived) == 100


def test_a_second_descriptor_shows_the_end():
    """The client sees it at once, too: whoever closes a connection shuts it down first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            client.sendall(bytes(100))
            until(lambda: [one.received for one in sockets.connections(port)] == [100])
            (seen,) = sockets.connections(port)
            held = sockets.hold(seen)
            assert held is not None
            assert sockets.hold(seen._replace(endpoint=("127.0.0.1", 1))) is None
            assert accepted.recv(100) == bytes(100)
            accepted.sendall(bytes(32))
            accepted.shutdown(socket.SHUT_RDWR)
            accepted.close()
            client.settimeout(20)
            assert len(client.recv(100)) == 32
            assert client.recv(100) == b""
        end = sockets.read(held, seen.endpoint)
        assert (end.received - seen.received, end.sent - seen.sent) in {(0, 32), (1, 32)}
        sockets.release(held)
        with pytest.raises(OSError, match="Bad file"):
            sockets.read(held, seen.endpoint)


def test_a_process_without_a_free_file_has_no_second_descriptors(monkeypatch):
    def full(_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sockets.os, "dup", full)
    assert sockets.hold(Connection(0, ("127.0.0.1", 1), 0)) is None
