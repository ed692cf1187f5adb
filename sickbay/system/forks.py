"""Cleanup in forks of a service process: they must not keep its lock, ports, connections and signals.

A handler that forks (`os.fork`, `multiprocessing`) creates a child with every open descriptor. Kept there, they outlive us: a port stays in
use, a lock held, and servers see our connections open after we were killed. And a signal to the child would wake us, as if it were for us.
So every forked child releases them at once: each becomes /dev/null under the same number, because objects that the child has inherited may
still write there.
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
    """Forks must not keep this open file, until `forget_descriptor`."""
    _descriptors.add(descriptor)


def forget_descriptor(descriptor: int) -> None:
    """The file is about to be closed."""
    _descriptors.discard(descriptor)


def keep_port(port: int) -> None:
    """Forks must not keep sockets on this local port: the listening one, and accepted connections."""
    _ports.add(port)


def keep_server(address: object) -> None:
    """Forks must not keep connections to the port of this internet address, or to this Unix socket; they cannot be shared."""
    _servers.add(_place(address))


def keep_signal(number: int) -> None:
    """Forks must not handle this signal as we do: they get the default handler."""
    _signals.add(number)


def is_fork() -> bool:
    """Whether this process is a fork of a service."""
    return _is_fork


def _release_in_child() -> None:
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
        opened = os.listdir("/proc/self/fd") if _ports or _servers else []  # noqa: PTH208 - no objects are needed in a fork
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


os.register_at_fork(after_in_child=_release_in_child)
