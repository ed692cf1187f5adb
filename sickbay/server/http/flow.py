"""What uvicorn reads from and writes to, so that we decide when reading goes on and how a connection ends."""

from __future__ import annotations

import asyncio
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from sickbay.server.http.turns import Turns


class Flow(FlowControl):
    """Reading pauses for us until we let it go on, whatever uvicorn and the application want; what they want takes its turn."""

    def __init__(self, transport: asyncio.Transport, turns: Turns) -> None:
        """Nothing is paused."""
        super().__init__(transport)
        self._turns = turns
        self._held = self._queues = False

    def hold(self) -> None:
        """Read no more."""
        self._held = True
        self.pause_reading()

    def release(self) -> bool:
        """Read on; whether we had paused."""
        was_held, self._held = self._held, False
        if was_held:
            self.read_on()
        return was_held

    def read_on(self) -> None:
        """Read on now, unless held."""
        if not (self._held or self._transport.is_closing()):
            super().resume_reading()

    def resume_reading(self) -> None:
        """The application has taken what there was, of which there was much if reading is paused."""
        if self.read_paused and not self._held and not self._queues:
            self._queues = True
            self._turns.wait(self._has_turn)

    def _has_turn(self) -> None:
        self._queues = False
        self.read_on()


class ClosesGently(Protocol):
    """A connection."""

    def close_gently(self) -> None:
        """Close once the client has had the chance to read the answer."""


class _Transport(Protocol):
    def write(self, data: bytes) -> None: ...
    def is_closing(self) -> bool: ...


class GentleTransport:
    """What an answer to a request with a body is written to: a transport, but for its end."""

    def __init__(self, transport: _Transport, connection: ClosesGently) -> None:
        """Write to `transport`, close by way of `connection`."""
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = connection.close_gently
