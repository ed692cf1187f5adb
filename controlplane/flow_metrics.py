"""Metrics of the control plane's work: transitions of breakers, incidents, releases, reconciliation, and the lag of the ledger."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.breaker import BreakerKey, BreakerState
from sickbay.domain.errors import Unavailable
from sickbay.domain.incident import Change, Incident
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.queries import ReconcileResult, ReleaseLease
from sickbay.observer import Observer
from sickbay.ports import Breakers, Clock
from sickbay.ports.incidents import Notice, Undelivered
from sickbay.telemetry.metrics import SECONDS, BoundedLabels

MAX_TYPES: Final = 100
OUTAGE_SECONDS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)
"""Buckets for outages."""


class TransitionMetrics:
    """Counts transitions of breakers. A slow reader may miss a state between two others, never the last."""

    def __init__(self, breakers: Breakers, registry: CollectorRegistry) -> None:
        """Add the metric to `registry`."""
        self._breakers = breakers
        text = "Changes of breakers to this state, of the whole fleet."
        self._changes = Counter("sickbay_breaker_transitions", text, ("job_type", "state"), registry=registry)
        self._type = BoundedLabels(MAX_TYPES)

    async def run(self) -> None:
        """Count until cancelled. The initial state of a breaker counts as a change only if it is not CLOSED."""
        known: dict[BreakerKey, BreakerState] = {}
        async with self._breakers.watch() as changes:
            async for breaker in changes:
                if known.get(breaker.key, BreakerState.CLOSED) is not breaker.state:
                    self._changes.labels(self._type(breaker.key.job_type), breaker.state.value).inc()
                if breaker.state is BreakerState.CLOSED:
                    known.pop(breaker.key, None)
                else:
                    known[breaker.key] = breaker.state


class IncidentMetrics(Observer):
    """Counts the incidents that this control plane recorded, how long they lasted, and its notices: sum them over all control planes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        self._incidents = Counter("sickbay_incidents", "Incidents: outages of breakers.", ("job_type",), registry=registry)
        text = "From the opening of a breaker to its closing. An incident that goes on after it was closed is observed again."
        self._seconds = Histogram("sickbay_incident_recovery_seconds", text, ("job_type",), buckets=OUTAGE_SECONDS, registry=registry)
        self._type = BoundedLabels(MAX_TYPES)
        text = "Attempts to tell the webhook of an incident: delivered, or failed and repeated."
        attempts = Counter("sickbay_webhook_attempts", text, ("result",), registry=registry)
        self._delivered, self._undelivered = map(attempts.labels, ("delivered", "failed"))

    def notified(self, notice: Notice, error: Undelivered | None) -> None:  # noqa: ARG002 - of all alike
        """Count one attempt."""
        (self._undelivered if error else self._delivered).inc()

    def incident_changed(self, incident: Incident, change: Change) -> None:
        """Count one change."""
        label = self._type(incident.key.job_type)
        if change is Change.OPENED:
            self._incidents.labels(label).inc()
        elif change is Change.CLOSED:
            self._seconds.labels(label).observe((incident.recovery_ms or 0) / 1000)


class HeldBackCollector(Collector):
    """Reports at each scrape for which job types this control plane holds releases back."""

    def __init__(self, held_back: Callable[[], Iterable[BreakerKey]], registry: CollectorRegistry) -> None:
        """Add itself to `registry`."""
        self._held_back = held_back
        self._type = BoundedLabels(MAX_TYPES)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "1 while released jobs of this type are parked again although its breaker is closed; of `other` how many types."
        family = GaugeMetricFamily("sickbay_releases_held_back", text, labels=("job_type",))
        held_back = Counts(map(self._type, sorted({key.job_type for key in self._held_back()})))
        for job_type, number in sorted(held_back.items()):
            family.add_metric((job_type,), number)
        yield family


class RateCollector(Collector):
    """Reports at each scrape how many jobs wait for the rate of their type."""

    def __init__(self, waiting: Callable[[], Mapping[BreakerKey, int]], registry: CollectorRegistry) -> None:
        """Add itself to `registry`; `waiting` counts them by type and tenant."""
        self._waiting = waiting
        self._type = BoundedLabels(MAX_TYPES)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Parked jobs that wait for the rate of runs of their type."
        family = GaugeMetricFamily("sickbay_rate_waiting_jobs", text, labels=("job_type",))
        counts = Counts[str]()
        for owner, count in self._waiting().items():
            counts[self._type(owner.job_type)] += count
        for job_type, number in sorted(counts.items()):
            family.add_metric((job_type,), number)
        yield family


class ReleaseMetrics(Observer):
    """Counts jobs that leave the quarantine; those that were SCHEDULED are counted in `schedule_metrics.py`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        jobs = Counter("sickbay_released_jobs", "Jobs released from quarantine.", ("by",), registry=registry)
        self._jobs = {by: jobs.labels(by) for by in ("healer", "people")}
        text = "Interrupted releases, also of scheduled jobs; the jobs are released again after their lease."
        self._failures = Counter("sickbay_release_failures", text, registry=registry)

    def released(self, leases: Sequence[ReleaseLease], by: str, error: BaseException | None) -> None:
        """Count one release."""
        if isinstance(error, Unavailable):
            self._failures.inc()
        elif error is None and by in self._jobs:
            self._jobs[by].inc(len(leases))


class ReconcileMetrics(Observer):
    """Counts what the reconciler did with the copies in `jobs.quarantine`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metric to `registry`."""
        text = "Copies that the sweep checked: ghost (removed), kept, told (new to the ledger), remade, left (makes the sweep fail)."
        copies = Counter("sickbay_sweep_copies", text, ("verdict",), registry=registry)
        self._ghosts, self._kept, self._told, self._remade, self._left = map(copies.labels, ("ghost", "kept", "told", "remade", "left"))

    def reconciled(self, result: ReconcileResult) -> None:
        """Count the copies of one round."""
        self._ghosts.inc(result.ghosts)
        self._kept.inc(result.kept)
        self._told.inc(result.adopted)
        self._remade.inc(result.recreated)
        self._left.inc(result.skipped)


class LedgerIngestMetrics(Observer):
    """Counts and times the batches of events written to the ledger, and reports how far it lags."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        """Add the metrics to `registry`."""
        self._clock = clock
        events = Counter("sickbay_ledger_events", "Events applied to the ledger, by state.", ("state",), registry=registry)
        self._events = {state: events.labels(state.value) for state in JobState}
        text = "Age of the oldest event in the last batch applied: how far statuses lag behind."
        self._lag = Gauge("sickbay_keeper_lag_seconds", text, registry=registry)
        self._seconds = Histogram("sickbay_ledger_apply_seconds", "Time to write one batch of events.", buckets=SECONDS, registry=registry)
        self._failures = Counter("sickbay_ledger_apply_failures", "Batches that the ledger rejected; they are retried.", registry=registry)

    def ingested(self, events: Sequence[JobEvent], seconds: float, error: BaseException | None) -> None:
        """Record one batch."""
        if error is not None:
            self._failures.inc()
            return
        self._seconds.observe(seconds)
        for event in events:
            self._events[event.state].inc()
        if events:
            self._lag.set(max(0, self._clock() - min(event.at for event in events)) / 1000)
