"""The metrics of the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge

RESULTS: Final = tuple(code.name for code in grpc.StatusCode)


class AuditMetrics:
    """Counts every entry by its result, those of a flood too, which have no entry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        self._entries = Counter(
            "sickbay_audit_entries", "Actions and refused calls, by result: OK or a gRPC status code.", ("result",), registry=registry
        )
        self._waiting = Gauge("sickbay_audit_entries_queued", "Entries of the audit log that wait for the broker.", registry=registry)
        self._dropped = Counter(
            "sickbay_audit_entries_dropped",
            "Entries that are in the service's log alone: too many waited for the broker.",
            registry=registry,
        )

    def observe_waiting(self, count: Callable[[], int]) -> None:
        """Show how many entries wait."""
        self._waiting.set_function(count)

    def count(self, result: str) -> None:
        """Count one action or one refused call."""
        self._entries.labels(result).inc()

    def drop(self, count: int) -> None:
        """Count entries that are lost to the ledger."""
        self._dropped.inc(count)
