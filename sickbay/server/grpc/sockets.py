"""The connections that grpc's core has accepted on a port: it does not expose them, but their file descriptors are in this process.

Inspecting them does not affect core. `cut` shuts a connection down in both directions, which core sees as a disconnect of the client; core
still has to close the descriptor. `hold` makes a second descriptor, which shows what became of a connection after core has closed its own.
Core shuts a connection down before it closes it, so its client sees the end at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from sickbay.server.peers import Endpoint, normalize

_INFO: Final = struct.Struct("24xI24xI64xQQ64xQQ")
"""Parts of Linux's `struct tcp_info`: unacked, last_data_recv (ms), bytes_acked, bytes_received, bytes_sent, bytes_retrans."""
_RECEIVED_END: Final = 136
"""Older systems have only this much of it, or less."""


class Connection(NamedTuple):
    """An accepted connection: its descriptor, the client's address, and the bytes received so far (-1 if unknown).

    `sent` counts bytes once (-1 if unknown), `acked` those that the client's machine has confirmed, `unacked` the segments that it has
    not; `silent_s` is how long the client has sent no data.
    """

    descriptor: int
    endpoint: Endpoint
    received: int
    sent: int = -1
    acked: int = 0
    unacked: int = 0
    silent_s: float = 0.0


def walk(port: int) -> Iterator[Connection | None]:
    """One item for each file of this process: a connection of a local port, or None; OSError at the first if no file can be opened."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - once a second, so without objects
        yield _connection(int(name), port)


def connections(port: int) -> list[Connection]:
    """The connections of a local port, without the listening socket; OSError if no file can be opened."""
    return [one for one in walk(port) if one is not None]


def cut(connection: Connection) -> None:
    """Shut it down, unless its descriptor has been reused."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.descriptor)) as same:
        if _endpoint(same.getpeername()) == connection.endpoint:
            same.shutdown(socket.SHUT_RDWR)


def hold(connection: Connection) -> int | None:
    """A second descriptor of it; None if no file can be opened, or if the connection is gone."""
    with contextlib.suppress(OSError):
        held = os.dup(connection.descriptor)
        with contextlib.suppress(OSError), _borrowed(held) as same:
            if _endpoint(same.getpeername()) == connection.endpoint:
                return held
        os.close(held)
    return None


def read(held: int, endpoint: Endpoint) -> Connection:
    """The connection as it is now, or as it ended."""
    with _borrowed(held) as one:
        return _measured(one, held, endpoint)


def release(held: int) -> None:
    """Close a descriptor of `hold`."""
    os.close(held)


def _connection(descriptor: int, port: int) -> Connection | None:
    try:
        one = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)  # room for both families; detecting it would cost more
    except OSError:  # no socket, or closed meanwhile
        return None
    try:
        name = one.getsockname()
        if not isinstance(name, tuple) or name[1] != port:  # other families have names of other types
            return None
        return _measured(one, descriptor, _endpoint(one.getpeername()))
    except OSError:  # closed meanwhile, or the listening socket
        return None
    finally:
        one.detach()


def _measured(one: socket.socket, descriptor: int, endpoint: Endpoint) -> Connection:
    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    unacked, silent_ms, acked, received, sent, repeated = _INFO.unpack(info.ljust(_INFO.size, b"\0"))
    if len(info) < _RECEIVED_END:
        received = -1
    if len(info) < _INFO.size:  # before Linux 4.19
        sent = -1
    return Connection(descriptor, endpoint, received, sent - repeated, acked, unacked, silent_ms / 1000)


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    one = socket.socket(fileno=descriptor)
    try:
        yield one
    finally:
        one.detach()


def _endpoint(name: tuple[str, int]) -> Endpoint:
    return normalize(name[0]), name[1]
