"""Metrics of the worker by tenant: outcomes of jobs, how long they waited, and how many of its slots each uses.

A bounded number of tenants has series of its own (`sickbay/telemetry/tenants.py`). Series come and go with them, so these metrics are
plain numbers, read at each scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sickbay.domain.breaker import Permit
from sickbay.domain.job import Job, JobEvent
from sickbay.domain.outcome import Outcome
from sickbay.observer import Observer
from sickbay.telemetry.tenants import TenantTable, largest
from worker.metrics import outcome_label

WAIT_SECONDS: Final = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 300.0)
"""Buckets, fewer than those of job types: each costs a series for each tenant."""
_NAMES: Final = (*map(floatToGoString, WAIT_SECONDS), "+Inf")


class _Tenant:
    """What is counted of one."""

    __slots__ = ("outcomes", "wait_sum", "waits")

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.waits = [0] * len(_NAMES)
        self.wait_sum = 0.0


class TenantMetrics(Observer, Collector):
    """Counts deliveries and waiting times by tenant, and knows which tenants' handlers run now."""

    def __init__(self, registry: CollectorRegistry, limit: int, now_s: Callable[[], float]) -> None:
        """Add itself to `registry`; at most `limit` tenants have series of their own. `now_s` is seconds since the epoch."""
        self._limit = limit
        self._now_s = now_s
        self._tenants = TenantTable(limit, _Tenant)
        self._running: Counter[str] = Counter()
        registry.register(self)

    def running(self) -> Mapping[str, int]:
        """How many handlers of each tenant run now."""
        return dict(self._running)

    def run_started(self, job: Job, permit: Permit) -> None:  # noqa: ARG002 - of probes as of others
        """A slot is in use."""
        self._running[job.tenant] += 1
        if job.is_fresh:
            tenant, waited = self._tenants.of(job.tenant), max(0.0, self._now_s() - job.submitted_at / 1000)
            tenant.waits[bisect_left(WAIT_SECONDS, waited)] += 1
            tenant.wait_sum += waited

    def run_ended(self, job: Job, permit: Permit, outcome: Outcome | None, seconds: float) -> None:  # noqa: ARG002 - whatever it was
        """It is free again."""
        self._running[job.tenant] -= 1
        if self._running[job.tenant] <= 0:
            del self._running[job.tenant]

    def settled(self, event: JobEvent) -> None:
        """Count a delivery by its outcome."""
        self._tenants.of(event.job.tenant).outcomes[outcome_label(event)] += 1

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        jobs = CounterMetricFamily("sickbay_tenant_jobs", "Deliveries of jobs by tenant, by result.", labels=("tenant", "outcome"))
        text = "Time from submission to the start of the first run, by tenant."
        waits = HistogramMetricFamily("sickbay_tenant_job_wait_seconds", text, labels=("tenant",))
        for name, tenant in self._tenants.values():
            for outcome, count in tenant.outcomes.items():
                jobs.add_metric((name, outcome), count)
            waits.add_metric((name,), _cumulative(tenant.waits), tenant.wait_sum)
        yield jobs
        yield waits
        running = GaugeMetricFamily("sickbay_tenant_jobs_running", "Handlers that are running, by tenant.", labels=("tenant",))
        for name, count in largest(self._running, self._limit).items():
            running.add_metric((name,), count)
        yield running


def _cumulative(counts: Iterable[int]) -> list[tuple[str, float]]:
    """Buckets as Prometheus has them: each contains the smaller ones."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for name, count in zip(_NAMES, counts, strict=True):
        total += count
        buckets.append((name, total))
    return buckets
