"""The connections that grpc's core has accepted on a port: it does not expose them, but their file descriptors are in this process.

Inspecting them does not affect core. `cut` shuts a connection down in both directions, which core sees as a disconnect of the client; core
still has to close the descriptor.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from sickbay.server.peers import Endpoint, normalize

_RECEIVED: Final = 128
"""Where `tcpi_bytes_received` is in Linux's `struct tcp_info`."""


class Connection(NamedTuple):
    """An accepted connection: its descriptor, the client's address, and the bytes received so far (-1 if unknown)."""

    descriptor: int
    endpoint: Endpoint
    received: int


def connections(port: int) -> list[Connection]:
    """The connections of a local port, without the listening socket; OSError if no file can be opened."""
    found = (_connection(int(name), port) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - once a second, so without objects
    return [one for one in found if one is not None]


def cut(connection: Connection) -> None:
    """Shut it down, unless its descriptor has been reused."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.descriptor)) as same:
        if _endpoint(same.getpeername()) == connection.endpoint:
            same.shutdown(socket.SHUT_RDWR)


def _connection(descriptor: int, port: int) -> Connection | None:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        with _borrowed(descriptor) as one:
            name = one.getsockname()
            if one.family not in {socket.AF_INET, socket.AF_INET6} or name[1] != port:
                return None
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED + 8)
            received = struct.unpack_from("Q", info, _RECEIVED)[0] if len(info) >= _RECEIVED + 8 else -1
            return Connection(descriptor, _endpoint(one.getpeername()), received)
    except OSError:  # closed meanwhile, or the listening socket
        return None


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    one = socket.socket(fileno=descriptor)
    try:
        yield one
    finally:
        one.detach()


def _endpoint(name: tuple[str, int]) -> Endpoint:
    return normalize(name[0]), name[1]
