"""Counts the connections that grpc's core closes and the calls that it rejects for their size, since core itself reports neither.

What happened is derived from the bytes of each connection (`evidence.py`). Of some connections a second descriptor is kept, which shows how
they ended: of as many as are cheap, and first of those that may be closed soon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Final, Protocol

from sickbay.domain.limits import Limits
from sickbay.server.grpc import sockets
from sickbay.server.grpc.evidence import History
from sickbay.server.grpc.meter import GrpcMeter, Reason
from sickbay.server.grpc.sockets import Connection
from sickbay.server.peers import Endpoint

WITNESSES: Final = 256
"""At most so many second descriptors, and at most one for four connections that are allowed."""
MOST_UNRECEIVED: Final = 100
"""Calls that ended without a message are noted up to this number between two checks."""


class Witnesses(Protocol):
    """Second descriptors; `sockets` has these functions."""

    def hold(self, connection: Connection) -> int | None:
        """A second descriptor, or None."""

    def read(self, held: int, endpoint: Endpoint) -> Connection:
        """The connection as it is now, or as it ended."""

    def release(self, held: int) -> None:
        """Close it."""


class Departures:
    """The connections of one port, and why those that are gone have been closed."""

    def __init__(
        self, limits: Limits, meter: GrpcMeter, clock: Callable[[], float], witnesses: Witnesses = sockets, *, is_encrypted: bool = False
    ) -> None:
        """Start without connections; `clock` in seconds, never steps. `is_encrypted`: see `History`."""
        self._is_encrypted = is_encrypted
        self._limits, self._meter, self._clock, self._sockets = limits, meter, clock, witnesses
        self._histories: dict[Endpoint, History] = {}
        self._held: dict[Endpoint, int] = {}
        self._descriptors: set[int] = set()
        self._spares: Iterator[Endpoint] | None = None
        self._unreceived: Counter[Endpoint] = Counter()
        self._most = min(WITNESSES, limits.connections // 4)
        self._is_ending = False

    def is_held(self, descriptor: int) -> bool:
        """Whether this is a second descriptor."""
        return descriptor in self._descriptors

    def note_unreceived(self, endpoint: Endpoint) -> None:
        """A call of this connection has ended at once without a message."""
        if len(self._unreceived) < MOST_UNRECEIVED:
            self._unreceived[endpoint] += 1

    def look(self, found: Mapping[Endpoint, Connection], calls: Container[Endpoint], is_open: Container[Endpoint]) -> None:
        """Compare with the previous check; of connections in `calls` one began since, of those in `is_open` one is in progress."""
        now = self._clock()
        self._spares = None
        for endpoint in [one for one in self._histories if one not in found]:
            self._judge(endpoint, now, calls=endpoint in calls)
        for endpoint, seen in found.items():
            self._update(endpoint, seen, now, calls=endpoint in calls, is_open=endpoint in is_open)
        self._unreceived.clear()

    def forget(self, endpoint: Endpoint) -> None:
        """We close this connection."""
        self._histories.pop(endpoint, None)
        self._release(endpoint)

    def end(self) -> None:
        """The server stops, and closes all connections."""
        self._is_ending = True
        for endpoint in list(self._held):
            self._release(endpoint)

    def _update(self, endpoint: Endpoint, seen: Connection, now: float, *, calls: bool, is_open: bool) -> None:
        history = self._histories.get(endpoint)
        if history is None or seen.received < history.last.received:  # a new one, perhaps from the same port as a former
            self._release(endpoint)
            history = self._histories[endpoint] = History(seen, now, self._is_encrypted)
        if self._unreceived or history.is_doubtful:
            calls = self._count_rejected(history, seen, now, is_busy=calls or is_open) or calls
        history.update(seen, now, calls=calls, is_open=is_open, ping_interval_s=self._limits.ping_interval_s)
        if endpoint not in self._held and not self._is_ending:
            self._hold(endpoint, history, now)

    def _count_rejected(self, history: History, seen: Connection, now: float, *, is_busy: bool) -> bool:
        """Count calls that core rejected; whether this connection had any that ended without a message."""
        fresh = self._unreceived[seen.endpoint]
        had_any = fresh > 0 or history.is_doubtful
        for _ in range(history.rejected(seen, fresh, now, is_busy=is_busy)):
            self._meter.count_refusal(Reason.OVERSIZE)
        return had_any

    def _hold(self, endpoint: Endpoint, history: History, now: float) -> None:
        if len(self._held) >= self._most:
            if not history.needs_witness(now, self._limits):
                return
            if self._spares is None:  # once per check: there may be thousands of connections
                self._spares = iter([one for one in self._held if not self._histories[one].needs_witness(now, self._limits)])
            spare = next(self._spares, None)
            if spare is None:
                return
            self._release(spare)
        held = self._sockets.hold(history.last)
        if held is not None:
            self._held[endpoint] = held
            self._descriptors.add(held)

    def _judge(self, endpoint: Endpoint, now: float, *, calls: bool) -> None:
        history, held = self._histories.pop(endpoint), self._held.get(endpoint)
        end = None if held is None else self._sockets.read(held, endpoint)
        self._release(endpoint)
        if self._is_ending:
            return
        if end is not None and (self._unreceived or history.is_doubtful):
            calls = self._count_rejected(history, end, now, is_busy=calls) or calls
        reason = history.reason(end, now, self._limits, calls=calls)
        if reason is not None:
            self._meter.count_refusal(reason)

    def _release(self, endpoint: Endpoint) -> None:
        held = self._held.pop(endpoint, None)
        if held is not None:
            self._descriptors.discard(held)
            self._sockets.release(held)
