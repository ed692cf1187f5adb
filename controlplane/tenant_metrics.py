"""Waiting jobs by tenant, read at a scrape. Every control plane reports the same numbers: aggregate them with `max`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from math import inf
from time import monotonic
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.errors import Unavailable
from sickbay.ports.limits import WaitingCounts
from sickbay.telemetry.tenants import largest

PATIENCE_S: Final = 5.0
"""Timeout of the ledger at a scrape; without an answer the metric is missing."""
SHARE: Final = 0.05
"""Counting takes at most this part of the time: with millions of waiting jobs, scrapes between two counts get the one of before."""


class WaitingMetrics(Collector):
    """Reads in `refresh`, reports in `collect`. What could not be read is omitted, never made up."""

    def __init__(
        self, registry: CollectorRegistry, *, counts: WaitingCounts | None, limit: int, now: Callable[[], float] = monotonic
    ) -> None:
        """Add itself to `registry`; at most `limit` tenants have series of their own. `now` is in seconds."""
        self._counts = counts
        self._limit = limit
        self._now = now
        self._waiting: Mapping[str, int] | None = None
        self._again_at = -inf
        registry.register(self)

    async def refresh(self) -> None:
        """Count the waiting jobs, unless that was done a moment ago."""
        began = self._now()
        if self._counts is None or began < self._again_at:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                self._waiting = (await self._counts.count()).by_tenant
        except (Unavailable, TimeoutError):
            self._waiting = None
        ended = self._now()
        self._again_at = ended + (ended - began) * (1 / SHARE - 1)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Jobs that wait (queued, retrying or parked) by the ledger, of the tenants with the most."
        family = GaugeMetricFamily("sickbay_tenant_waiting_jobs", text, labels=("tenant",))
        for tenant, count in largest(self._waiting or {}, self._limit).items():
            family.add_metric((tenant,), count)
        yield family
