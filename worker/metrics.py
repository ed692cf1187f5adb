"""Metrics of the worker: outcomes of jobs, how long they waited and ran, results of probes.

All children are created as soon as a job type has a handler: at a job's end only its type is looked up, and Prometheus,
which does not count the first value of a series as an increase, sees the first job that kills its workers.
"""

from __future__ import annotations

from collections import Counter as TypeCounts
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.breaker import Permit, PermitKind
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.observer import Observer
from sickbay.telemetry.metrics import LONG_SECONDS, OTHER, BoundedLabels
from worker.runner import Runner

MAX_TYPES: Final = 100
"""Job types with demoted jobs; those beyond this limit are `other`."""
MAX_HANDLED: Final = 10_000
"""Job types that have had a handler here; those beyond this limit are `other`."""
MAX_CODES: Final = 50
"""Handlers choose error codes; those beyond this limit are `other`."""

_OUTCOMES: Final = {
    JobState.SUCCEEDED: "succeeded",
    JobState.RETRYING: "retried",
    JobState.PARKED: "parked",
    JobState.QUARANTINED: "quarantined",
    JobState.CANCELLED: "cancelled",
}
_DROPPED: Final = "dropped"
UNKNOWN_TYPE: Final = "unknown"
"""The job type if it is unknown whose code blocked the loop."""
_RESULTS: Final = ("success", "failure", "inconclusive")


class JobMetrics(Observer):
    """Counts and times every run, and counts the outcomes of deliveries."""

    def __init__(self, registry: CollectorRegistry, job_types: Iterable[str], now_s: Callable[[], float]) -> None:
        """Add the metrics to `registry`; job types other than these are `other`. `now_s` is seconds since the epoch."""
        self._now_s = now_s
        jobs = Counter("sickbay_jobs", "Deliveries of jobs, by result.", ("job_type", "outcome"), registry=registry)
        runs = Counter("sickbay_job_runs", "Runs of handlers (attempts), by kind of outcome.", ("job_type", "kind"), registry=registry)
        self._failures = Counter("sickbay_job_failures", "Failed runs, by error code.", ("job_type", "code"), registry=registry)
        text = "Parked and quarantined jobs, by reason."
        quarantined = Counter("sickbay_jobs_set_aside", text, ("job_type", "reason"), registry=registry)
        text = "Retries of jobs whose dependency fails, and that would be quarantined by now if they were at fault."
        beyond = Counter("sickbay_jobs_retried_beyond_limit", text, ("job_type",), registry=registry)
        probes = Counter("sickbay_breaker_probes", "Probes, by result.", ("job_type", "result"), registry=registry)
        seconds = Histogram("sickbay_job_run_seconds", "How long handlers ran.", ("job_type",), buckets=LONG_SECONDS, registry=registry)
        waits = Histogram(
            "sickbay_job_wait_seconds",
            "Time from submission to the start of the first run.",
            ("job_type",),
            buckets=LONG_SECONDS,
            registry=registry,
        )
        self._code = BoundedLabels(MAX_CODES)
        self._create = partial(
            _TypeMetrics, jobs=jobs, runs=runs, quarantined=quarantined, beyond=beyond, probes=probes, seconds=seconds, waits=waits
        )
        self._types: dict[str, _TypeMetrics] = {}
        self._other = self._create(OTHER)
        self.add(job_types)

    def add(self, job_types: Iterable[str]) -> None:
        """These have a handler, too, from now on; beyond MAX_HANDLED types they are `other`."""
        for name in job_types:
            if name not in self._types and len(self._types) < MAX_HANDLED:
                self._types[name] = self._create(name)

    def run_ended(self, job: Job, permit: Permit, outcome: Outcome | None, seconds: float) -> None:
        """Count a run by its outcome, and time it."""
        if outcome is None:
            return
        of_type = self._types.get(job.job_type, self._other)
        of_type.runs[outcome.kind].inc()
        of_type.seconds.observe(seconds)
        if job.is_fresh:
            of_type.waits.observe(max(0.0, self._now_s() - seconds - job.submitted_at / 1000))
        if outcome.code:
            self._failures.labels(of_type.name, self._code(outcome.code)).inc()
        if permit.kind is PermitKind.PROBE:
            of_type.probes[_probe_result(outcome.kind)].inc()

    def settled(self, event: JobEvent) -> None:
        """Count a delivery by its outcome."""
        of_type = self._types.get(event.job.job_type, self._other)
        of_type.jobs[outcome_label(event)].inc()
        if event.reason is not None:
            of_type.quarantined[event.reason].inc()
        if event.beyond_limit:
            of_type.beyond.inc()


def outcome_label(event: JobEvent) -> str:
    """What became of a delivery."""
    return _DROPPED if event.duplicate else _OUTCOMES[event.state]


class _TypeMetrics:
    """The children of one job type."""

    __slots__ = ("beyond", "jobs", "name", "probes", "quarantined", "runs", "seconds", "waits")

    def __init__(
        self,
        name: str,
        *,
        jobs: Counter,
        runs: Counter,
        quarantined: Counter,
        beyond: Counter,
        probes: Counter,
        seconds: Histogram,
        waits: Histogram,
    ) -> None:
        self.name = name
        self.jobs = {outcome: jobs.labels(name, outcome) for outcome in (*_OUTCOMES.values(), _DROPPED)}
        self.runs = {kind: runs.labels(name, kind.value) for kind in OutcomeKind}
        self.quarantined = {reason: quarantined.labels(name, reason.value) for reason in Reason}
        self.beyond = beyond.labels(name)
        self.probes = {result: probes.labels(name, result) for result in _RESULTS}
        self.seconds = seconds.labels(name)
        self.waits = waits.labels(name)


class WorkerMetrics(Collector):
    """Metrics that are read at a scrape."""

    def __init__(
        self, registry: CollectorRegistry, *, runner: Runner, job_types: Iterable[str], concurrency: int, stale: Callable[[], int]
    ) -> None:
        """Add the metrics to `registry`."""
        Gauge("sickbay_jobs_running", "Handlers that are running.", registry=registry).set_function(lambda: runner.running)
        Gauge("sickbay_worker_concurrency", "Handlers that can run at a time.", registry=registry).set(concurrency)
        self._runner = runner
        self._job_types = job_types
        self._stale = stale
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        name = "sickbay_breaker_stale_outcomes"
        yield CounterMetricFamily(name, "Outcomes of runs that were too late to change their breaker.", self._stale())
        text = "Handlers that still run after their timeout, because they cannot be stopped."
        overdue = GaugeMetricFamily("sickbay_handlers_overdue", text, labels=["job_type"])
        blocked = CounterMetricFamily(
            "sickbay_handler_loop_blocked", "Times a handler blocked the event loop of the handlers.", labels=["job_type"]
        )
        for job_type in sorted(self._job_types):
            overdue.add_metric([job_type], self._runner.lost(job_type))
            blocked.add_metric([job_type], self._runner.blocked(job_type))
        blocked.add_metric([UNKNOWN_TYPE], self._runner.blocked(""))
        yield overdue
        yield blocked
        text = "Seconds in which this process was suspended while handlers were running."
        yield CounterMetricFamily("sickbay_worker_standstill_seconds", text, self._runner.standstill_s)


class DemotionCollector(Collector):
    """Reports at each scrape how many jobs were moved to the lane of the demoted."""

    def __init__(self, registry: CollectorRegistry, demoted: Callable[[], Mapping[str, int]]) -> None:
        """Add itself to `registry`; `demoted` returns how many jobs of each type were moved."""
        self._demoted = demoted
        self._type = BoundedLabels(MAX_TYPES)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        text = "Jobs that this worker moved to the lane of the demoted, because their type and tenant flooded theirs."
        family = CounterMetricFamily("sickbay_jobs_demoted", text, labels=["job_type"])
        counts: TypeCounts[str] = TypeCounts()
        for job_type, count in list(self._demoted().items()):
            counts[self._type(job_type)] += count
        for label, count in counts.items():
            family.add_metric([label], count)
        yield family


def _probe_result(kind: OutcomeKind) -> str:
    if kind is OutcomeKind.SUCCESS:
        return "success"
    return "failure" if kind.is_breaker_failure else "inconclusive"
