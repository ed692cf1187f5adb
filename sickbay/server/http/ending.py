"""Pausing and closing of an HTTP connection: on rejection, timeout, or after the last response, so that the client sees the reason."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sickbay.domain.limits import HttpLimits
from sickbay.server.http import limits as bounds
from sickbay.server.http.bodies import BodyBudget
from sickbay.server.http.connection_limiter import ConnectionLimiter
from sickbay.server.http.flow import Flow
from sickbay.server.http.inbox import Inbox
from sickbay.server.http.meter import HttpMeter, Reason
from sickbay.server.http.refusal import BUSY, refusal
from sickbay.server.http.request import Incoming
from sickbay.server.http.turns import PortTurns


@dataclass(frozen=True, slots=True)
class Port:
    """What the connections of one port share."""

    limits: HttpLimits
    limiter: ConnectionLimiter
    bodies: BodyBudget
    meter: HttpMeter
    turns: PortTurns = field(default_factory=PortTurns)
    lingering: OrderedDict[EndingConnection, None] = field(default_factory=OrderedDict)
    """Connections that are rejected and still read, oldest first."""


class EndingConnection(HttpToolsProtocol, ABC):
    """The half of a `Connection` that pauses and closes it."""

    _flow: Flow

    def __init__(self, port: Port, **options: Any) -> None:
        """`options` are uvicorn's."""
        super().__init__(**options)
        self.peer = ""
        self._port = port
        self._inbox = Inbox()
        self._request = Incoming()
        self._since = 0.0  # since when we wait for what comes next
        self._waits_for_room = self._lingers = False
        self._discarded = 0  # bytes that came after an answer
        self._unsent = 0  # bytes of answers that the client has not read at `_since`; 0 if it keeps up

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start with flow control of our own."""
        super().connection_made(transport)
        self.flow = self._flow = Flow(transport, self._port.turns)
        self._since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything."""
        self._leave()
        if not self._request.is_large or self.cycle.response_complete:
            super().connection_lost(exc)
            return
        cycle, self.cycle = self.cycle, None  # type: ignore[assignment] # uvicorn would wake the applications of all at once
        super().connection_lost(exc)
        self.cycle = cycle
        self._give_up()

    def close_gently(self) -> None:
        """Close after the last response. More data of the client is read: closing now would reset the connection and lose the response."""
        if self._request.in_body:
            self._linger()
        else:
            self.transport.close()

    def make_room(self) -> None:
        """Close in favour of a new connection."""
        self._leave()
        if self._request.has_begun and not self._lingers and not self._unsent:
            self._refuse(503, Reason.OLDEST, BUSY, lingers=False)
        else:
            self._port.meter.count_refusal(Reason.OLDEST)
            self.transport.abort()

    @abstractmethod
    def may_go_on(self) -> None:
        """See `Upload`."""

    @abstractmethod
    def lose_room(self) -> None:
        """See `Upload`."""

    def _refuse(self, status: int, reason: Reason, message: str, *, lingers: bool = True) -> None:
        """Respond instead of the application, which sees a disconnected client, and close."""
        self._port.meter.count_refusal(reason)
        if self._request.in_body and self.cycle.response_started:
            self.transport.abort()  # another response has begun, or was sent
            return
        if self._request.in_body:
            self._give_up()
        self.transport.write(refusal(status, message, self.server_state.default_headers))
        if lingers and (self._request.in_body or self.transport.can_write_eof()):  # TLS cannot half-close: where no body comes, it ends
            self._linger()
        else:
            self.transport.close()

    def _give_up(self) -> None:
        """Tell the application that there is no client any more; in its turn, if it then frees a large body."""
        self.cycle.disconnected = True
        if self._request.is_large:
            self._port.turns.giving_up.owe(self._request.got / bounds.GIVE_UP_RATE)
            self._port.turns.giving_up.wait(self.cycle.message_event.set)
        else:
            self.cycle.message_event.set()

    def _linger(self) -> None:
        """Half-close the connection, and continue to read for a while until the client has seen that."""
        self._lingers, self._waits_for_room = True, False
        self._discard(len(self._inbox))
        self._inbox.clear()
        self._port.bodies.done(self, self.loop.time())
        self._wait()
        self._port.lingering[self] = None
        if len(self._port.lingering) > bounds.MAX_LINGERING:
            self._port.lingering.popitem(last=False)[0].transport.abort()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._read_in_turn(0)

    def _read_in_turn(self, discarded: int) -> None:
        """Discard the next piece when others had their turn: whoever was rejected may send as fast as the network allows."""
        self._flow.hold()
        self._port.turns.discarding.owe(discarded / bounds.DISCARD_RATE)
        self._port.turns.discarding.wait(self._flow.release)

    def _read_on(self) -> None:
        if self._flow.release():
            self._port.bodies.hold(self, 0)

    def _pause_reading(self) -> None:
        """Pause reading. Data that was read already, up to 256 KB, stays buffered, within the budget for that."""
        self._flow.hold()
        if not self._port.bodies.hold(self, len(self._inbox)):
            self._port.meter.count_refusal(Reason.BODY_ROOM)
            self.transport.abort()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > bounds.LINGER_BYTES and not self.transport.is_closing():
            self._port.meter.count_refusal(Reason.BODY_SIZE)
            self.transport.abort()

    def _sweep_unsent(self, now: float) -> None:
        size = max(1, self.transport.get_write_buffer_size())
        if not self._unsent or size < self._unsent:
            self._since, self._unsent = now, size
        elif now - self._since > self._port.limits.write_timeout:
            self._port.meter.count_refusal(Reason.UNREAD)
            self.transport.abort()

    def _wait(self) -> None:
        """Wait for the client from now on."""
        self._since = self.loop.time()
        self._port.limiter.waits(self)

    def _leave(self) -> None:
        self._inbox.clear()
        self._port.lingering.pop(self, None)
        self._port.limiter.leave(self)
        self._port.bodies.done(self, self.loop.time())
