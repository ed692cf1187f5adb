"""Metrics of the Job API: submissions and their results."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.errors import ErrorReason, SickbayError
from sickbay.domain.priority import Priority
from sickbay.domain.queries import Accepted
from sickbay.observer import Observer
from sickbay.submission.door import Door
from sickbay.submission.lanes import LaneChoice
from sickbay.submission.names import Names
from sickbay.submission.waiting import WaitingJobs
from sickbay.telemetry.metrics import BoundedLabels
from sickbay.telemetry.tenants import TenantTable, largest

MAX_TENANTS: Final = 20
"""Tenants whose waiting jobs are shown while they are limited."""
MAX_TYPES: Final = 100
"""Clients choose job types; those beyond this limit are `other`."""


class SubmissionMetrics(Observer):
    """Counts what clients submit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metric to `registry`."""
        self._submissions = Counter(
            "sickbay_submissions",
            "Jobs submitted: accepted (durable), duplicate (a repeat of a key), circuit_open (rejected as asked), rate_limited and "
            "queue_full (rejected by a limit), invalid_payload (does not fit its type), refused (rejected).",
            ("job_type", "result"),
            registry=registry,
        )
        self._prioritized = Counter(
            "sickbay_prioritized_jobs",
            "Jobs accepted with another priority than NORMAL.",
            ("job_type", "priority"),
            registry=registry,
        )
        self._type = BoundedLabels(MAX_TYPES)

    def submitted(self, job_types: Sequence[str], results: Sequence[Accepted | SickbayError]) -> None:
        """Count one call."""
        counts = Counts((job_type, _result_label(result)) for job_type, result in zip(job_types, results, strict=True))
        for (job_type, label), count in counts.items():
            self._submissions.labels(self._type(job_type), label).inc(count)
        for job_type, priority in map(_priority_of, results):
            if priority is not Priority.NORMAL:
                self._prioritized.labels(self._type(job_type), priority.value).inc()


class TenantSubmissionMetrics(Observer, Collector):
    """Counts accepted jobs by tenant."""

    def __init__(self, registry: CollectorRegistry, limit: int) -> None:
        """Add itself to `registry`; at most `limit` tenants have series of their own."""
        self._tenants: TenantTable[Counts[str]] = TenantTable(limit, Counts)
        registry.register(self)

    def submitted(self, job_types: Sequence[str], results: Sequence[Accepted | SickbayError]) -> None:  # noqa: ARG002 - by tenant alone
        """Count one call."""
        for result in results:
            if not isinstance(result, SickbayError):
                self._tenants.of(result.job.tenant)[_result_label(result)] += 1

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Jobs submitted by tenant: accepted (durable), duplicate (a repeat of a key)."
        family = CounterMetricFamily("sickbay_tenant_submissions", text, labels=("tenant", "result"))
        for tenant, counts in self._tenants.values():
            for result, count in counts.items():
                family.add_metric((tenant, result), count)
        yield family


class NamesCollector(Collector):
    """Reports at each scrape how many names are known, and how many submissions were rejected because of theirs."""

    def __init__(self, names: Names, registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._names = names
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        known = GaugeMetricFamily("sickbay_names_known", "Job types and tenants that this Job API knows.", labels=("kind",))
        known.add_metric(("job_type",), self._names.job_types)
        known.add_metric(("tenant",), self._names.tenants)
        yield known
        text = "Submissions rejected because their job type or tenant was new and exceeded a limit."
        yield CounterMetricFamily("sickbay_names_refused", text, self._names.refused)


class DemotionCollector(Collector):
    """Reports at each scrape how many jobs of floods were sent to the lane of the demoted."""

    def __init__(self, lanes: LaneChoice, registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._lanes = lanes
        self._type = BoundedLabels(MAX_TYPES)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Jobs accepted that wait in the lane of the demoted, because their type and tenant flooded theirs."
        family = CounterMetricFamily("sickbay_submissions_demoted", text, labels=("job_type",))
        counts: Counts[str] = Counts()
        for job_type, count in list(self._lanes.demoted.items()):
            counts[self._type(job_type)] += count
        for label, count in counts.items():
            family.add_metric((label,), count)
        yield family


class DoorCollector(Collector):
    """Reports at each scrape what the limits on submissions do; waiting jobs only while they are limited."""

    def __init__(self, door: Door, waiting: WaitingJobs, registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._door = door
        self._waiting = waiting
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Submissions rejected by a limit: the rate of a tenant or type, waiting jobs of a tenant (tenant_queued) or of all (queued)."
        rejected = CounterMetricFamily("sickbay_limit_rejections", text, labels=("limit", "name"))
        for (limit, name), count in list(self._door.rejected.items()):
            rejected.add_metric((limit, name), count)
        yield rejected
        text = "Jobs accepted without limits on rates, because the store of these did not answer."
        yield CounterMetricFamily("sickbay_limits_skipped", text, self._door.unlimited)
        text = "Jobs that wait (queued, retrying or parked) by the ledger, of the tenants with the most; only while a limit on them is set."
        tenants = GaugeMetricFamily("sickbay_waiting_jobs", text, labels=("tenant",))
        for tenant, count in largest(self._waiting.counted, MAX_TENANTS).items():
            tenants.add_metric((tenant,), count)
        yield tenants
        text = "Whether waiting jobs are limited and counted (1), or limited and not counted (0): then all are accepted."
        known = GaugeMetricFamily("sickbay_waiting_jobs_known", text, labels=())
        if self._waiting.is_wanted:
            known.add_metric((), float(self._waiting.is_known))
        yield known


_REJECTIONS: Final = {
    ErrorReason.CIRCUIT_OPEN: "circuit_open",
    ErrorReason.SUBMISSION_RATE_EXCEEDED: "rate_limited",
    ErrorReason.TOO_MANY_QUEUED: "queue_full",
    ErrorReason.INVALID_PAYLOAD: "invalid_payload",
}


def _priority_of(result: Accepted | SickbayError) -> tuple[str, Priority]:
    """The type and the priority of a new job; NORMAL for what is none."""
    if isinstance(result, SickbayError) or result.duplicate:
        return "", Priority.NORMAL
    return result.job.job_type, result.job.priority


def _result_label(result: Accepted | SickbayError) -> str:
    if isinstance(result, SickbayError):
        return _REJECTIONS.get(result.reason, "refused")
    return "duplicate" if result.duplicate else "accepted"
