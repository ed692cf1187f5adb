"""The connections of a port that somebody else's code has accepted: grpc's core tells nobody of them, but their files are ours.

Looking takes nothing from their owner. `cut` shuts a connection down in both directions, which its owner sees as its client's leaving;
the file stays its owner's to close.
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

from sickbay.server.peers import Endpoint, plain

_RECEIVED: Final = 128
"""Where `tcpi_bytes_received` is in Linux's `struct tcp_info`."""


class Connection(NamedTuple):
    """One accepted connection: its file, the client's address, and the bytes that came over it so far."""

    descriptor: int
    endpoint: Endpoint
    received: int


def connections(port: int) -> list[Connection]:
    """Those of a local port, the one that listens not among them; OSError if no file can be opened at all."""
    found = (_connection(int(name), port) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - once a second, so without objects
    return [one for one in found if one is not None]


def cut(connection: Connection) -> None:
    """Shut it down, unless its file is another one by now."""
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
            received = struct.unpack_from("Q", info, _RECEIVED)[0] if len(info) >= _RECEIVED + 8 else 0
            return Connection(descriptor, _endpoint(one.getpeername()), received)
    except OSError:  # closed meanwhile, or it listens
        return None


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    one = socket.socket(fileno=descriptor)
    try:
        yield one
    finally:
        one.detach()


def _endpoint(name: tuple[str, int]) -> Endpoint:
    return plain(name[0]), name[1]
