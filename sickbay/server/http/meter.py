"""Metrics of what an HTTP port closed or rejected, and at most one log line a minute for each reason."""

from __future__ import annotations

import logging
from collections import Counter as Counts
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

_log = logging.getLogger(__name__)
_LOG_AGAIN_S: Final = 60.0


class Reason(StrEnum):
    """Why a connection was closed, or a request rejected, before the application saw it."""

    MALFORMED = "malformed"
    HEADER_SIZE = "header_size"
    HEADER_TIMEOUT = "header_timeout"
    SILENT = "silent"
    BODY_TIMEOUT = "body_timeout"
    BODY_ROOM = "body_room"
    BODY_SIZE = "body_size"
    UNREAD = "unread"
    CONNECTIONS = "connections"
    PEER_CONNECTIONS = "peer_connections"
    OLDEST = "oldest"


_MESSAGES: Final = {
    Reason.MALFORMED: "malformed HTTP, or HTTP that two servers could parse differently",
    Reason.HEADER_SIZE: "a header is larger than HTTP_MAX_HEADER_BYTES, or has too many lines",
    Reason.HEADER_TIMEOUT: "timed out waiting for a whole header (HTTP_HEADER_TIMEOUT)",
    Reason.SILENT: "timed out waiting for the first byte (HTTP_HEADER_TIMEOUT)",
    Reason.BODY_TIMEOUT: "timed out waiting for a body (HTTP_BODY_TIMEOUT)",
    Reason.BODY_ROOM: "too many large bodies at a time (HTTP_BODY_BUFFER_BYTES)",
    Reason.BODY_SIZE: "a client continued to send a body that was rejected",
    Reason.UNREAD: "timed out waiting for a client to read its response (HTTP_WRITE_TIMEOUT)",
    Reason.CONNECTIONS: "too many connections (HTTP_MAX_CONNECTIONS), and none of them is idle",
    Reason.PEER_CONNECTIONS: "too many connections of one peer (HTTP_MAX_CONNECTIONS_PER_PEER), and none of them is idle",
    Reason.OLDEST: "too many connections: those idle longest were closed for new ones",
}


class HttpMeter:
    """The metrics of one HTTP port."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        self._connections = Gauge("sickbay_http_connections", "Open connections of the HTTP port.", registry=registry)
        self._body_bytes = Gauge("sickbay_http_body_bytes", "Bytes reserved for large request bodies.", registry=registry)
        self._waiting = Gauge("sickbay_http_bodies_waiting", "Requests whose large body waits for space.", registry=registry)
        self._refused = Counter(
            "sickbay_http_refused", "Connections closed, or requests rejected, by a limit.", ("reason",), registry=registry
        )
        for reason in Reason:
            self._refused.labels(reason)
        self._unlogged: Counts[Reason] = Counts()
        self._logged_at: dict[Reason, float] = {}

    def observe(self, *, connections: Callable[[], float], body_bytes: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Read these at each scrape."""
        self._connections.set_function(connections)
        self._body_bytes.set_function(body_bytes)
        self._waiting.set_function(waiting)

    def count_refusal(self, reason: Reason) -> None:
        """Count one."""
        self._refused.labels(reason).inc()
        self._unlogged[reason] += 1

    def log_counts(self, port: int, now: float) -> None:
        """Log what was counted since the last line of its reason; called every second."""
        for reason, count in list(self._unlogged.items()):
            if now - self._logged_at.get(reason, -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
                self._logged_at[reason] = now
                del self._unlogged[reason]
                _log.warning("HTTP port %d: %s (%d since the last such line)", port, _MESSAGES[reason], count)
