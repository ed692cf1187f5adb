"""Metrics of the Job API: submissions and their results."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from jobapi.names import Names
from sickbay.domain.errors import ErrorReason, SickbayError
from sickbay.domain.queries import Accepted
from sickbay.observer import Observer
from sickbay.telemetry.metrics import BoundedLabels

MAX_TYPES: Final = 100
"""Clients choose job types; those beyond this limit are `other`."""


class SubmissionMetrics(Observer):
    """Counts what clients submit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metric to `registry`."""
        self._submissions = Counter(
            "sickbay_submissions",
            "Jobs submitted: accepted (durable), duplicate (a repeat of a key), circuit_open (rejected as asked), refused (rejected).",
            ("job_type", "result"),
            registry=registry,
        )
        self._type = BoundedLabels(MAX_TYPES)

    def submitted(self, job_types: Sequence[str], results: Sequence[Accepted | SickbayError]) -> None:
        """Count one call."""
        counts = Counts((job_type, _result_label(result)) for job_type, result in zip(job_types, results, strict=True))
        for (job_type, label), count in counts.items():
            self._submissions.labels(self._type(job_type), label).inc(count)


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


def _result_label(result: Accepted | SickbayError) -> str:
    if isinstance(result, SickbayError):
        return "circuit_open" if result.reason is ErrorReason.CIRCUIT_OPEN else "refused"
    return "duplicate" if result.duplicate else "accepted"
