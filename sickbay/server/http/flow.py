"""Flow control and transport for uvicorn that let us decide when reading continues and how a connection is closed."""

from __future__ import annotations

import asyncio
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from sickbay.server.http.turns import PortTurns


class Flow(FlowControl):
    """Reading stays paused until we release it, whatever uvicorn and the application request; their requests take turns."""

    def __init__(self, transport: asyncio.Transport, turns: PortTurns) -> None:
        """Start without a pause."""
        super().__init__(transport)
        self._turns = turns
        self._held = self._is_queued = False

    def hold(self) -> None:
        """Pause reading."""
        self._held = True
        self.pause_reading()

    def release(self) -> bool:
        """Continue reading; returns whether it was paused."""
        was_held, self._held = self._held, False
        if was_held:
            self.read_on()
        return was_held

    def read_on(self) -> None:
        """Continue reading now, unless held."""
        if not (self._held or self._transport.is_closing()):
            super().resume_reading()

    def resume_reading(self) -> None:
        """Continue reading after a turn: the application has consumed all data, and that was much if reading is paused."""
        if self.read_paused and not self._held and not self._is_queued:
            self._is_queued = True
            self._turns.reading.wait(self._on_turn)

    def _on_turn(self) -> None:
        self._is_queued = False
        self.read_on()


class ClosesGently(Protocol):
    """A connection."""

    def close_gently(self) -> None:
        """Close after the client has had time to read the response."""


class _Transport(Protocol):
    def write(self, data: bytes) -> None: ...
    def is_closing(self) -> bool: ...


class GentleTransport:
    """The transport for the response to a request with a body, with another way to close."""

    def __init__(self, transport: _Transport, connection: ClosesGently) -> None:
        """Write to `transport`, close through `connection`."""
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = connection.close_gently
