"""The worker in numbers: what became of jobs, how long they waited and ran, what probes came to.

Every child is made at the start, for the types that have handlers: at a job's end nothing is looked up but its type, and Prometheus,
which takes a series' first value for no increase, sees the first job that kills its workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.breaker import Permit, PermitKind
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.observer import Observer
from sickbay.telemetry.metrics import LONG_SECONDS, OTHER, Bounded
from worker.runner import Runner

MAX_CODES: Final = 50
"""Error codes are the handlers' to invent; those beyond are `other`."""

_OUTCOMES: Final = {
    JobState.SUCCEEDED: "succeeded",
    JobState.RETRYING: "retried",
    JobState.PARKED: "parked",
    JobState.QUARANTINED: "quarantined",
}
_DROPPED: Final = "dropped"
UNTOLD: Final = "unknown"
"""Where nobody could tell whose code blocked the loop."""
_RESULTS: Final = ("success", "failure", "inconclusive")


class JobMetrics(Observer):
    """Counts and times every run, and counts what became of deliveries."""

    def __init__(self, registry: CollectorRegistry, job_types: Iterable[str], now_s: Callable[[], float]) -> None:
        """Add the metrics to `registry`; other types than these are `other`. `now_s` is seconds since the epoch."""
        self._now_s = now_s
        jobs = Counter("sickbay_jobs", "Deliveries of jobs, by result.", ("job_type", "outcome"), registry=registry)
        runs = Counter("sickbay_job_runs", "Runs of handlers (attempts), by kind of outcome.", ("job_type", "kind"), registry=registry)
        self._failures = Counter("sickbay_job_failures", "Failed runs, by error code.", ("job_type", "code"), registry=registry)
        aside = Counter("sickbay_jobs_set_aside", "Parked and quarantined jobs, by reason.", ("job_type", "reason"), registry=registry)
        probes = Counter("sickbay_breaker_probes", "Probes, by result.", ("job_type", "result"), registry=registry)
        seconds = Histogram("sickbay_job_run_seconds", "How long handlers ran.", ("job_type",), buckets=LONG_SECONDS, registry=registry)
        waits = Histogram(
            "sickbay_job_wait_seconds",
            "Time from submission to the start of the first run.",
            ("job_type",),
            buckets=LONG_SECONDS,
            registry=registry,
        )
        self._code = Bounded(MAX_CODES)
        of = partial(_OfType, jobs=jobs, runs=runs, aside=aside, probes=probes, seconds=seconds, waits=waits)
        self._types = {name: of(name) for name in job_types}
        self._other = of(OTHER)

    def run_ended(self, job: Job, permit: Permit, outcome: Outcome | None, seconds: float) -> None:
        """A run that began is counted by its outcome, and timed."""
        if outcome is None:
            return
        of = self._types.get(job.job_type, self._other)
        of.runs[outcome.kind].inc()
        of.seconds.observe(seconds)
        if job.is_fresh:
            of.waits.observe(max(0.0, self._now_s() - seconds - job.submitted_at / 1000))
        if outcome.code:
            self._failures.labels(of.name, self._code(outcome.code)).inc()
        if permit.kind is PermitKind.PROBE:
            of.probes[_proved(outcome.kind)].inc()

    def settled(self, event: JobEvent) -> None:
        """Counted by what became of it."""
        of = self._types.get(event.job.job_type, self._other)
        of.jobs[_DROPPED if event.duplicate else _OUTCOMES[event.state]].inc()
        if event.reason is not None:
            of.aside[event.reason].inc()


class _OfType:
    """The children of one job type."""

    __slots__ = ("aside", "jobs", "name", "probes", "runs", "seconds", "waits")

    def __init__(
        self, name: str, *, jobs: Counter, runs: Counter, aside: Counter, probes: Counter, seconds: Histogram, waits: Histogram
    ) -> None:
        self.name = name
        self.jobs = {outcome: jobs.labels(name, outcome) for outcome in (*_OUTCOMES.values(), _DROPPED)}
        self.runs = {kind: runs.labels(name, kind.value) for kind in OutcomeKind}
        self.aside = {reason: aside.labels(name, reason.value) for reason in Reason}
        self.probes = {result: probes.labels(name, result) for result in _RESULTS}
        self.seconds = seconds.labels(name)
        self.waits = waits.labels(name)


class WorkerMetrics(Collector):
    """What is asked at a scrape."""

    def __init__(
        self, registry: CollectorRegistry, *, runner: Runner, job_types: Iterable[str], concurrency: int, stale: Callable[[], int]
    ) -> None:
        """Add the metrics to `registry`."""
        Gauge("sickbay_jobs_running", "Handlers that are running.", registry=registry).set_function(lambda: runner.running)
        Gauge("sickbay_worker_concurrency", "Handlers that can run at a time.", registry=registry).set(concurrency)
        self._runner = runner
        self._job_types = sorted(job_types)
        self._stale = stale
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Prometheus's protocol."""
        name = "sickbay_breaker_stale_outcomes"
        yield CounterMetricFamily(name, "Outcomes of runs that were too late to change their breaker.", self._stale())
        text = "Handlers that still run after their timeout, because they cannot be stopped."
        overdue = GaugeMetricFamily("sickbay_handlers_overdue", text, labels=["job_type"])
        blocked = CounterMetricFamily(
            "sickbay_handler_loop_blocked", "Times a handler blocked the event loop of the handlers.", labels=["job_type"]
        )
        for job_type in self._job_types:
            overdue.add_metric([job_type], self._runner.lost(job_type))
            blocked.add_metric([job_type], self._runner.blocked(job_type))
        blocked.add_metric([UNTOLD], self._runner.blocked(""))
        yield overdue
        yield blocked
        text = "Seconds in which this process was suspended while handlers were running."
        yield CounterMetricFamily("sickbay_worker_standstill_seconds", text, self._runner.standstill_s)


def _proved(kind: OutcomeKind) -> str:
    if kind is OutcomeKind.SUCCESS:
        return "success"
    return "failure" if kind.is_breaker_failure else "inconclusive"
