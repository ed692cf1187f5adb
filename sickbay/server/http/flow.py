"""What uvicorn reads from and writes to, so that we decide when reading goes on and how a connection ends."""

from __future__ import annotations

from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Reading pauses for us until we let it go on, whatever uvicorn and the application want."""

    _held = False

    def hold(self) -> None:
        """Read no more."""
        self._held = True
        self.pause_reading()

    def release(self) -> bool:
        """Read on; whether we had paused."""
        was_held, self._held = self._held, False
        if was_held:
            self.resume_reading()
        return was_held

    def resume_reading(self) -> None:
        """Uvicorn's wish to read on."""
        if not self._held:
            super().resume_reading()


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
