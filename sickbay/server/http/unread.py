"""Whether the client of a connection with TLS reads: the event loop does not say how much of what it has encrypted is still to be sent."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios
from typing import Any, Final

_ACKED: Final = struct.Struct("120xQ")
"""`tcpi_bytes_acked` of Linux's `struct tcp_info`."""


class Unread:
    """The send queue of a socket in the kernel, as it was at each look. While the event loop has more to send, that is never empty."""

    def __init__(self, opened: Any) -> None:
        """`opened` is what a transport calls its socket; it stays the transport's."""
        self._descriptor: int = opened.fileno()
        self._acked = -1
        self._since = 0.0

    def stuck_s(self, now: float) -> float:
        """For how long, in seconds, the client has confirmed none of the bytes that wait for it; 0 if none do."""
        waiting = array.array("i", [0])
        try:
            fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, waiting)
            acked = self._read_acked()
        except OSError:  # closed
            return 0.0
        if waiting[0] == 0 or acked != self._acked:
            self._acked, self._since = acked, now
        return now - self._since

    def _read_acked(self) -> int:
        one = socket.socket(fileno=self._descriptor)
        try:
            (acked,) = _ACKED.unpack(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size).ljust(_ACKED.size, b"\0"))
        finally:
            one.detach()
        return int(acked)
