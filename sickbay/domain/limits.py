"""Limits and timeouts of ports and watches. Pure.

One rule behind the defaults: no peer gets more than half of anything, so that there is always room for others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

RESERVE: Final = 4_096
"""Files reserved for servers, the data folder and handlers; half of what the process may open where that is less."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The configurable limits of a gRPC port and of watches; times in seconds."""

    connections: int = 4_096
    connections_per_peer: int = 2_048
    handshake_s: float = 10
    idle_s: float = 300
    keepalive_s: float = 60
    keepalive_timeout_s: float = 20
    ping_interval_s: float = 10
    metadata_bytes: int = 16_384
    message_bytes: int = 16_777_216
    body_s: float = 30
    write_s: float = 30
    body_buffer_bytes: int = 134_217_728
    streams: int = 250
    calls: int = 2_000
    watches: int = 5_000
    watches_per_peer: int = 2_500

    def within(self, files: int, ports: int) -> Self:
        """The same for a process that may open `files` and has `ports`: all ports together leave the reserve."""
        room = room_for_connections(files, ports)
        if self.connections <= room:
            return self
        return replace(self, connections=room, connections_per_peer=min(self.connections_per_peer, max(1, room // 2)))


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The configurable limits of an HTTP port; each setting is HTTP_ and the name in capitals; times in seconds."""

    max_connections: int = 4_096
    max_connections_per_peer: int = 2_048
    max_header_bytes: int = 64 * 1024
    header_timeout: float = 10
    body_timeout: float = 30
    body_buffer_bytes: int = 134_217_728
    idle_timeout: float = 75
    write_timeout: float = 30

    def within(self, files: int, ports: int) -> Self:
        """The same for a process that may open `files` and has `ports`."""
        room = room_for_connections(files, ports)
        if self.max_connections <= room:
            return self
        return replace(self, max_connections=room, max_connections_per_peer=min(self.max_connections_per_peer, max(1, room // 2)))


def room_for_connections(files: int, ports: int) -> int:
    """How many connections each port of a process may have, so that the reserve is left."""
    return max(16, (files - min(RESERVE, files // 2)) // ports)
