"""Metrics of the live workers, read at each scrape. Every control plane reports the same numbers: aggregate them with `max`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.workers import UNKNOWN
from sickbay.fleet import FleetView
from sickbay.telemetry.metrics import OTHER

MAX_TYPES: Final = 200
"""Job types with series of their own, those that no worker takes first; the others are one, `other`, with the least of their numbers."""


class WorkerMetrics(Collector):
    """Reads in `refresh`, reports in `collect`. What could not be read is omitted, never made up."""

    def __init__(self, registry: CollectorRegistry, *, fleet: FleetView, waiting: Callable[[], Collection[str]]) -> None:
        """Add itself to `registry`; `waiting` returns the types that jobs wait for."""
        self._fleet = fleet
        self._waiting = waiting
        self._seen = UNKNOWN
        registry.register(self)

    async def refresh(self) -> None:
        """Read the registry."""
        self._seen = await self._fleet.look()

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        fleet = self._seen
        live = GaugeMetricFamily(
            "sickbay_live_workers", "Live workers that take jobs of a type; 0 if jobs wait and no worker does.", labels=("job_type",)
        )
        numbers = dict.fromkeys(filter(fleet.lacks, self._waiting()), 0) | dict(fleet.live)
        known = sorted(numbers.items(), key=lambda item: (item[0] == OTHER, item[1] > 0, item[0]))
        own = [item for item in known[:MAX_TYPES] if item[0] != OTHER]
        for job_type, number in own:
            live.add_metric((job_type,), number)
        if rest := known[len(own) :]:
            live.add_metric((OTHER,), min(number for _, number in rest))
        yield live
        if fleet.unannounced is not None:
            text = "Processes that consume jobs and are not in the registry of workers."
            yield GaugeMetricFamily("sickbay_unannounced_workers", text, fleet.unannounced)
