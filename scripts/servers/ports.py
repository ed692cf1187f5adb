"""Ports of this machine: one that is free, and whether somebody listens at one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from pathlib import Path
from random import SystemRandom
from typing import Final

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_TRIES: Final = 1_000
_AT_MOST: Final = 200
_RESERVED: Final[deque[int]] = deque()
"""Sockets that are bound and never listen: nobody else is given their ports, but a server that sets SO_REUSEADDR can listen there."""


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            return True
    except OSError:
        return False


def free_port() -> int:
    """One that nobody uses now, and that no outgoing connection gets: its server may be away for a while and come back to it.

    Nobody else is given it while this process runs (the last 200).
    """
    for _ in range(_TRIES):
        port = SystemRandom().randrange(_LOWEST, _first_ephemeral())
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            continue
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _RESERVED.append(holder.detach())
        if len(_RESERVED) > _AT_MOST:
            os.close(_RESERVED.popleft())
        return port
    raise RuntimeError(f"no free port was found in {_TRIES} tries")


def _first_ephemeral() -> int:
    """From here on the system numbers outgoing connections."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return max(int(_EPHEMERAL.read_text().split()[0]), _LOWEST + 1_000)
    return 32_768
