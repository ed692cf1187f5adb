"""What a fork of a service process must not keep: its lock, its ports, its connections, its signals.

A handler that forks (`os.fork`, `multiprocessing`) makes a child with every open descriptor. Kept there, they outlive us: a port stays
taken, a lock held, and a server sees our connections open after we were killed. And a signal to the child would wake us, as if it were for
us. So the child of any fork gives them up at once: each becomes /dev/null under the same number, because objects that the child has
inherited, too, may still write there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Final

_descriptors: Final[set[int]] = set()
_ports: Final[set[object]] = set()
_servers: Final[set[object]] = set()
_signals: Final[set[int]] = set()
_is_fork = False


def keep_descriptor(descriptor: int) -> None:
    """This open file is ours alone, until `forget_descriptor`."""
    _descriptors.add(descriptor)


def forget_descriptor(descriptor: int) -> None:
    """It is about to be closed."""
    _descriptors.discard(descriptor)


def keep_port(port: int) -> None:
    """Sockets on this local port are ours alone: the one that listens, and those that it has accepted."""
    _ports.add(port)


def keep_server(address: object) -> None:
    """Connections to the port of this internet address, or to this Unix socket, are ours alone; a fork could not share them."""
    _servers.add(_place(address))


def keep_signal(number: int) -> None:
    """We handle this signal; in a fork it does what it does in any process."""
    _signals.add(number)


def is_fork() -> bool:
    """Whether this process is a fork that somebody made of a service."""
    return _is_fork


def _let_go() -> None:
    """Runs in the child; must neither fail nor wait."""
    global _is_fork  # noqa: PLW0603 - there is one process
    _is_fork = True
    with contextlib.suppress(ValueError, OSError):
        if _signals:
            signal.set_wakeup_fd(-1)
        for number in _signals:
            signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in _ours():
            os.dup2(null, descriptor, inheritable=False)
        os.close(null)


def _ours() -> set[int]:
    opened: list[str] = []
    with contextlib.suppress(OSError):
        opened = os.listdir("/proc/self/fd") if _ports or _servers else []  # noqa: PTH208 - a fork needs no objects for it
    return {*_descriptors, *(number for number in map(int, opened) if _is_our_socket(number))}


def _is_our_socket(descriptor: int) -> bool:
    try:
        opened = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        return _place(opened.getsockname()) in _ports or _place(opened.getpeername()) in _servers
    except OSError:  # it listens elsewhere, or is not connected
        return False
    finally:
        opened.detach()


def _place(address: object) -> object:
    """The port of an internet address, the path of a Unix one."""
    return address[1] if isinstance(address, tuple) else address


os.register_at_fork(after_in_child=_let_go)
