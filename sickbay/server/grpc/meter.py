"""Metrics of what a gRPC port rejected or closed, and at most one log line a minute for each reason."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

_log = logging.getLogger(__name__)
LOG_AGAIN_S: Final = 60.0


class Reason(StrEnum):
    """The limit that was exceeded."""

    CONNECTIONS = "connections"
    PEER_CONNECTIONS = "peer_connections"
    HANDSHAKE = "handshake"
    CALLS = "calls"
    WATCHES = "watches"
    BODY_TIMEOUT = "body_timeout"
    BODY_ROOM = "body_room"
    UNREAD = "unread"
    OLDEST = "oldest"
    FILES = "files"
    STREAMS = "streams"
    METADATA = "metadata"
    MESSAGE = "message"
    OVERSIZE = "oversize"
    IDLE = "idle"
    KEEPALIVE = "keepalive"
    PINGS = "pings"


_MESSAGES: Final = {
    Reason.CONNECTIONS: "too many connections (GRPC_MAX_CONNECTIONS); the newest of the peer with the most were closed",
    Reason.PEER_CONNECTIONS: "too many connections of one peer (GRPC_MAX_CONNECTIONS_PER_PEER); its newest were closed",
    Reason.HANDSHAKE: "timed out waiting for a new connection to speak HTTP/2 (GRPC_HANDSHAKE_TIMEOUT)",
    Reason.CALLS: "too many calls (GRPC_MAX_CALLS), and none of them waits for its client; new ones were rejected",
    Reason.WATCHES: "too many watches (MAX_WATCHES), or too many of one peer (MAX_WATCHES_PER_PEER); new ones were rejected",
    Reason.BODY_TIMEOUT: "timed out waiting for the message of a call (GRPC_BODY_TIMEOUT)",
    Reason.BODY_ROOM: "too many bytes of unfinished messages (GRPC_BODY_BUFFER_BYTES); the connection with the most was closed",
    Reason.UNREAD: "timed out waiting for a client to read its response (GRPC_WRITE_TIMEOUT)",
    Reason.OLDEST: "too many calls (GRPC_MAX_CALLS): those that had waited longest for their clients were ended for new ones",
    Reason.FILES: "too many open files in this process (ulimit -n); new connections were closed",
    Reason.STREAMS: "a connection has as many calls and watches as it may (GRPC_MAX_STREAMS); its client waits before it sends more",
    Reason.METADATA: "too large metadata of a call (GRPC_MAX_METADATA_BYTES); it was rejected",
    Reason.MESSAGE: "too large message of a call (GRPC_MAX_MESSAGE_BYTES); it was rejected",
    Reason.OVERSIZE: "a message (GRPC_MAX_MESSAGE_BYTES) or metadata (GRPC_MAX_METADATA_BYTES) of more than twice the limit was rejected",
    Reason.IDLE: "a connection without a call was closed (GRPC_IDLE_TIMEOUT); its client connects again when it needs to",
    Reason.KEEPALIVE: "timed out waiting for the answer to a ping (GRPC_KEEPALIVE_TIMEOUT); a client or its machine is gone",
    Reason.PINGS: "too many pings of a client (GRPC_PING_INTERVAL); its connection was closed",
}


class GrpcMeter:
    """The metrics of one gRPC port."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        """Add the metrics to `registry`."""
        self._connections = Gauge("sickbay_grpc_connections", "Open connections of the gRPC port.", registry=registry)
        self._calls = Gauge("sickbay_grpc_calls", "Calls in progress, streams not counted.", registry=registry)
        self._watches = Gauge("sickbay_watches", "Open watches, over REST and gRPC.", registry=registry)
        self._refused = Counter(
            "sickbay_grpc_refused", "Connections and calls rejected or closed by a limit.", ("reason",), registry=registry
        )
        for reason in Reason:
            self._refused.labels(reason)
        self._clock = clock
        self._logged_at: dict[Reason, float] = {}
        self._unlogged: dict[Reason, int] = {}

    def observe(self, *, connections: Callable[[], float], calls: Callable[[], float], watches: Callable[[], float]) -> None:
        """Read these at each scrape."""
        self._connections.set_function(connections)
        self._calls.set_function(calls)
        self._watches.set_function(watches)

    def count_refusal(self, reason: Reason) -> None:
        """Count one, and log it unless that was done recently."""
        self._refused.labels(reason).inc()
        now = self._clock()
        count = self._unlogged[reason] = self._unlogged.get(reason, 0) + 1
        if now - self._logged_at.get(reason, -LOG_AGAIN_S) >= LOG_AGAIN_S:
            self._logged_at[reason] = now
            self._unlogged[reason] = 0
            level = logging.INFO if reason is Reason.IDLE else logging.WARNING  # that is no fault of anybody
            _log.log(level, "gRPC: %s (%d since the last such line)", _MESSAGES[reason], count)
