"""What the bytes of a connection say about why core has closed it."""

import pytest

from sickbay.domain.limits import Limits
from sickbay.server.grpc.evidence import History
from sickbay.server.grpc.meter import Reason
from sickbay.server.grpc.sockets import Connection

LIMITS = Limits(idle_s=300, keepalive_s=60, keepalive_timeout_s=20, ping_interval_s=10)
PING, FIN = 17, 1
IDLE, TOO_MANY, TIMEOUT = 32, 31, 29
"""The sizes of core's GOAWAYs: `connection idle`, `too_many_pings`, `ping_timeout`."""


class Client:
    """A connection that is checked once a second; what it sends and receives is said."""

    def __init__(self):
        self.now, self.sent, self.received, self.silent, self.unacked = 0.0, 226, 195, 0.0, 0
        self.history = History(self.seen(), 0.0)
        self.check(calls=True)

    def seen(self):
        return Connection(3, ("10.0.0.1", 1), self.received, self.sent, self.sent if not self.unacked else 0, self.unacked, self.silent)

    def exchange(self, received=0, sent=0):
        self.received += received
        self.sent += sent
        if received > FIN:
            self.silent = 0.0

    def check(self, seconds=1.0, *, calls=False, is_open=False):
        self.now += seconds
        self.silent += seconds
        self.history.update(self.seen(), self.now, calls=calls, is_open=is_open, ping_interval_s=LIMITS.ping_interval_s)

    def wait(self, seconds, **more):
        for _ in range(seconds):
            self.check(**more)

    def keep_alive(self, seconds, every=60):
        """Quiet, but for the server's pings."""
        for second in range(1, seconds + 1):
            if second % every == 0:
                self.exchange(PING, PING)
            self.check()

    def gone(self, *, calls=False, is_watched=True):
        self.now += 0.5
        self.silent += 0.5
        return self.history.reason(self.seen() if is_watched else None, self.now, LIMITS, calls=calls)


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_client_that_is_quiet_for_too_long(is_watched):
    client = Client()
    client.keep_alive(300)
    client.exchange(FIN, IDLE)
    assert client.gone(is_watched=is_watched) is Reason.IDLE


def test_a_client_that_leaves():
    """Soon, and even when it would have been closed in a moment."""
    client = Client()
    client.keep_alive(30)
    client.exchange(FIN)
    assert client.gone() is None
    client = Client()
    client.keep_alive(300)
    client.exchange(FIN)
    assert client.gone() is None


def test_a_client_that_leaves_after_its_call():
    client = Client()
    client.keep_alive(300)
    client.exchange(100 + PING + FIN, 80)
    assert client.gone(calls=True) is None


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("is_watched", [True, False])
def test_a_client_that_answers_no_ping(is_open, is_watched):
    client = Client()
    client.wait(60, is_open=is_open)
    client.exchange(0, PING)
    client.wait(20, is_open=is_open)
    client.exchange(0, TIMEOUT)
    assert client.gone(is_watched=is_watched) is Reason.KEEPALIVE


def test_a_client_that_does_not_answer_the_ping_after_its_call():
    client = Client()
    client.wait(20)
    client.exchange(0, TIMEOUT)
    assert client.gone() is Reason.KEEPALIVE


def test_a_client_that_is_killed_while_it_hangs():
    client = Client()
    client.wait(60)
    client.exchange(0, PING)
    client.wait(10)
    client.exchange(FIN)
    assert client.gone() is None


def test_a_machine_that_is_gone_while_it_is_sent_something():
    """Its kernel closes it, with no byte of core's."""
    client = Client()
    client.wait(5, is_open=True)
    client.exchange(0, 300)
    client.unacked = 1
    client.wait(20, is_open=True)
    assert client.gone(is_watched=False) is Reason.KEEPALIVE


def test_a_slow_network_is_not_a_machine_that_is_gone():
    client = Client()
    for _ in range(40):
        client.exchange(0, 300)
        client.unacked = 0 if client.unacked else 1
        client.check(is_open=True)
    assert client.gone(is_watched=False) is None


def test_pings_that_come_too_often():
    client = Client()
    for _ in range(3):
        client.keep_alive(4)
        client.exchange(PING, PING)
    client.check()
    assert client.history.needs_witness(client.now, LIMITS)
    client.exchange(PING, PING + TOO_MANY)
    assert client.gone() is Reason.PINGS


def test_a_flood_of_pings():
    """Most of them are not answered any more."""
    client = Client()
    client.keep_alive(4)
    client.exchange(1_000 * PING, 3 * PING + TOO_MANY)
    assert client.gone() is Reason.PINGS


def test_pings_during_a_watch():
    """What the watch sends must not be taken for a GOAWAY."""
    client = Client()
    for second in range(16):
        if second % 5 == 0:
            client.exchange(PING, PING)
        client.check(is_open=True)
    assert client.history.needs_witness(client.now, LIMITS)
    client.exchange(PING, PING + 40)
    assert client.gone() is None
    client.exchange(0, TOO_MANY - 40)
    assert client.gone() is Reason.PINGS


def test_pings_as_often_as_allowed():
    client = Client()
    client.keep_alive(100, every=15)
    assert not client.history.needs_witness(client.now, LIMITS)
    client.exchange(PING + FIN, PING)
    assert client.gone() is None


def test_a_client_that_pings_and_is_idle():
    client = Client()
    client.keep_alive(300, every=15)
    assert client.history.needs_witness(client.now, LIMITS)
    client.exchange(FIN, IDLE)
    assert client.gone() is Reason.IDLE


def test_a_system_that_does_not_count():
    history = History(Connection(3, ("10.0.0.1", 1), 5), 0.0)
    assert history.reason(None, 1_000.0, LIMITS, calls=False) is None


@pytest.mark.parametrize(
    ("answer", "fresh", "is_busy", "count"),
    [(168, 1, False, 1), (2 * 168, 2, False, 2), (168, 2, False, 0), (113, 1, False, 0), (17 + 13, 1, False, 0), (168, 1, True, 0)],
    ids=["core's answer", "two", "one of two", "a deadline", "cancelled", "another call was answered"],
)
def test_calls_that_ended_without_a_message(answer, fresh, is_busy, count):
    """Core answers up to a second later."""
    client = Client()
    assert client.history.rejected(client.seen(), fresh, client.now, is_busy=False) == 0
    client.check(0.1)
    client.exchange(FIN, answer)
    assert client.history.rejected(client.seen(), 0, client.now + 1, is_busy=is_busy) == count


def test_a_new_connection_whose_first_call_is_too_large():
    history = History(Connection(3, ("10.0.0.1", 1), 40_202, 46 + 9 + 168), 1.0)
    assert history.rejected(history.last, 1, 1.0, is_busy=False) == 1
    history = History(Connection(3, ("10.0.0.1", 1), 237, 46 + 9 + 2 * 17), 1.0)
    assert history.rejected(history.last, 1, 1.0, is_busy=False) == 0


def test_with_tls_no_size_is_taken_for_pings_or_an_answer():
    def encrypted(received, sent):
        return Connection(3, ("10.0.0.1", 1), received, sent, sent, 0, 0.5)

    history = History(encrypted(1_000, 3_000), 0.0, is_encrypted=True)
    for second in range(1, 4):
        history.update(encrypted(1_000 + 34 * second, 3_000), float(second), calls=False, is_open=False, ping_interval_s=10)
    assert history.hasty_at is None
    assert history.reason(encrypted(1_000 + 6 * PING, 3_000 + TOO_MANY), 3.5, LIMITS, calls=False) is None
    assert history.rejected(encrypted(1_200, 9_000), 1, 4.0, is_busy=False) == 0


def test_with_tls_an_idle_connection_is_still_one():
    history = History(Connection(3, ("10.0.0.1", 1), 1_000, 3_000, 3_000), 0.0, is_encrypted=True)
    end = Connection(3, ("10.0.0.1", 1), 1_024, 3_000 + IDLE + 22, 3_054)
    assert history.reason(end, 300.0, LIMITS, calls=False) is Reason.IDLE
