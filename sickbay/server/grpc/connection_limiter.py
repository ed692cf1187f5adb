"""Limits the connections of a gRPC port, which grpc's core accepts by itself: per peer, in all, and by their unfinished messages.

Core has a limit on all connections, but none per peer, buffers the bytes of unfinished messages without a limit, and does not report silent
connections that it closes. So once a second, ten times as often while calls are stalled, and even more often while their messages come near
the limit, our own sockets are checked, and those beyond a limit are shut down. A check of thousands is made in slices, for the event loop
has others to serve.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.limits import Limits
from sickbay.server.grpc import sockets
from sickbay.server.grpc.departures import Departures, Witnesses
from sickbay.server.grpc.guard import STALLED_S, CallGuard
from sickbay.server.grpc.meter import GrpcMeter, Reason
from sickbay.server.grpc.sockets import Connection
from sickbay.server.peers import Endpoint, peer_of

LOOK_S: Final = 1.0
URGENT_S: Final = 0.02
"""Between two checks while unfinished messages use a quarter of their limit: a client on a fast network sends some 20 MB in that time."""
SLICE_S: Final = 0.001
"""How long a check goes on before other work gets a turn."""
SLICE_REST_S: Final = 2 * SLICE_S
LOOKING: Final = 4
"""The pause after a check is at least this many times its duration, so that checks of many connections use only a part of the CPU."""
PREFACE_BYTES: Final = 33
"""What every HTTP/2 client sends at first: 24 bytes and the header of its settings."""
HEADER_BYTES: Final = 1_024
"""An upper bound of the bytes that a call sends beside its message."""

TLS_SHARE: Final = 32
"""TLS adds at most a byte to so many: 29 to each record, which has 1,400 or more of a large message."""


@dataclass(slots=True)
class _Member:
    """A connection at the last check: `number` is its order of arrival, `unfinished` the bytes of incomplete messages.

    `since` is when it was first seen, in seconds of a clock that never steps.
    """

    connection: Connection
    number: int
    since: float
    unfinished: int = 0


class ConnectionLimiter:
    """The connections of one port."""

    def __init__(
        self,
        limits: Limits,
        guard: CallGuard,
        meter: GrpcMeter,
        *,
        look: Callable[[int], Iterable[Connection | None]] = sockets.walk,
        cut: Callable[[Connection], None] = sockets.cut,
        witnesses: Witnesses = sockets,
        clock: Callable[[], float] = monotonic,
        is_encrypted: bool = False,
    ) -> None:
        """`look` lists the connections of a port among Nones, `cut` shuts one down, `witnesses` show how one ended.

        `clock` is in seconds and never steps. Bytes of a port with TLS, `is_encrypted`, are more than those of its messages.
        """
        self._limits, self._guard, self._meter = limits, guard, meter
        self._look, self._cut, self._clock = look, cut, clock
        self._members: dict[Endpoint, _Member] = {}
        self._departures = Departures(limits, meter, clock, witnesses, is_encrypted=is_encrypted)
        self._is_encrypted = is_encrypted
        self._found: dict[Endpoint, tuple[Connection, int]] = {}
        self._completed: Counter[Endpoint] = Counter()
        self._arrivals = 0
        self._pause_s = STALLED_S
        self._stalled = asyncio.Event()
        guard.on_stall = self._stalled.set
        guard.on_message = self._on_message
        guard.on_unreceived = self._on_unreceived
        guard.cut = self._cut_endpoint

    def __len__(self) -> int:
        return len(self._members)

    async def run(self, port: int) -> None:
        """Check until cancelled."""
        while True:
            await wait_for_event(self._stalled, LOOK_S)
            await asyncio.sleep(self._pause_s)
            if not self._guard.is_received:
                self._stalled.clear()
            began = monotonic()
            await self._look_in_slices(port)
            self._pause_s = max(URGENT_S, LOOKING * (monotonic() - began)) if self._is_urgent else STALLED_S

    def look(self, port: int) -> None:
        """Check once: compare with the previous check, and cut connections beyond a limit."""
        for _ in self._check(port):
            pass

    async def _look_in_slices(self, port: int) -> None:
        end = monotonic() + SLICE_S
        for _ in self._check(port):
            if monotonic() >= end:
                await asyncio.sleep(0 if self._is_urgent else SLICE_REST_S)
                end = monotonic() + SLICE_S

    def _check(self, port: int) -> Iterator[None]:
        """Yields after each file. The bytes of a connection and the messages that they completed are counted at the same moment."""
        self._found.clear()
        try:
            for connection in self._look(port):
                if connection is not None and not self._departures.is_held(connection.descriptor):
                    self._found[connection.endpoint] = connection, self._completed.pop(connection.endpoint, 0)
                yield
        except OSError:
            self._meter.count_refusal(Reason.FILES)
            return
        self._compare()
        self._bound_handshakes()
        self._bound_peers()
        self._bound_all()
        self._bound_bytes()

    def end(self) -> None:
        """The server is about to stop: from now on connections that it closes are not counted."""
        self._departures.end()

    def _on_unreceived(self, endpoint: Endpoint) -> None:
        self._departures.note_unreceived(endpoint)
        if endpoint not in self._members:  # its client may be gone at the next check
            self._stalled.set()

    def _on_message(self, endpoint: Endpoint, size: int) -> None:
        self._completed[endpoint] += size + HEADER_BYTES + (size // TLS_SHARE + HEADER_BYTES if self._is_encrypted else 0)

    def _cut_endpoint(self, endpoint: Endpoint) -> None:
        self._found.pop(endpoint, None)
        member = self._members.pop(endpoint, None)
        if member is not None:  # otherwise it came within the last second, and is cut at the next timeout
            self._departures.forget(endpoint)
            self._cut(member.connection)

    def _compare(self) -> None:
        now, before, self._members = self._clock(), self._members, {}
        for endpoint, (connection, completed) in self._found.items():
            member = before.get(endpoint)
            if member is None or connection.received < member.connection.received:
                self._arrivals += 1
                member = _Member(connection._replace(received=0), self._arrivals, now)
            fresh = connection.received - member.connection.received - completed
            member.unfinished = max(0, member.unfinished + fresh) if self._guard.is_received else 0
            member.connection = connection
            self._members[endpoint] = member
        gone = [endpoint for endpoint in self._completed if endpoint not in self._found]
        calls = {endpoint for endpoint, (_, completed) in self._found.items() if completed}.union(gone)
        for endpoint in gone:
            del self._completed[endpoint]
        self._departures.look({endpoint: connection for endpoint, (connection, _) in self._found.items()}, calls, self._guard.open)

    def _bound_handshakes(self) -> None:
        late = self._clock() - self._limits.handshake_s
        for member in [one for one in self._members.values() if one.since <= late and 0 <= one.connection.received < PREFACE_BYTES]:
            self._end(member, Reason.HANDSHAKE)

    def _bound_peers(self) -> None:
        if len(self._members) <= self._limits.connections_per_peer:
            return
        for members in self._by_peer().values():
            for member in members[self._limits.connections_per_peer :]:
                self._end(member, Reason.PEER_CONNECTIONS)

    def _bound_all(self) -> None:
        if len(self._members) <= self._limits.connections:
            return
        peers = self._by_peer()
        while len(self._members) > self._limits.connections:
            self._end(max(peers.values(), key=len).pop(), Reason.CONNECTIONS)

    def _bound_bytes(self) -> None:
        while self._unfinished > self._limits.body_buffer_bytes:
            self._end(max(self._members.values(), key=lambda member: member.unfinished), Reason.BODY_ROOM)

    @property
    def _is_urgent(self) -> bool:
        return self._unfinished > self._limits.body_buffer_bytes // 4

    @property
    def _unfinished(self) -> int:
        return sum(member.unfinished for member in self._members.values())

    def _by_peer(self) -> dict[str, list[_Member]]:
        """The members by peer, in order of arrival."""
        peers: dict[str, list[_Member]] = defaultdict(list)
        for member in sorted(self._members.values(), key=lambda member: member.number):
            peers[peer_of(member.connection.endpoint[0])].append(member)
        return peers

    def _end(self, member: _Member, reason: Reason) -> None:
        del self._members[member.connection.endpoint]
        self._departures.forget(member.connection.endpoint)
        self._cut(member.connection)
        self._meter.count_refusal(reason)
