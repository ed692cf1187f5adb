"""Metrics of jobs that are to run later, and of schedules.

What is read from the ledger at a scrape is the same in every control plane: aggregate it with `max`. What is counted is each one's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controlplane.dispatcher import BY
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.queries import ReleaseLease
from sickbay.domain.schedule import FAILED, RunOutcome, Schedule, ScheduleRun, ScheduleState
from sickbay.observer import Observer
from sickbay.ports import Clock
from sickbay.ports.schedule_counts import ScheduleCounts, ScheduleStatistics
from sickbay.ports.scheduled_jobs import ScheduledJobs
from sickbay.ports.schedules import Fired
from sickbay.telemetry.metrics import OTHER, BoundedLabels

MAX_TYPES: Final = 100
MAX_FAILING: Final = 100
"""Failing schedules with series of their own; the others are one, `other`."""
LATE_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
"""Buckets for lateness: a fraction of a second at work, the length of an outage after one."""
PATIENCE_S: Final = 5.0
"""Timeout of the ledger at a scrape; without an answer the metrics are missing."""
SHARE: Final = 0.05
"""Counting takes at most this part of the time: of very many schedules, scrapes between two counts get the one of before."""
T = TypeVar("T")


class ScheduledJobMetrics(Observer):
    """Counts the jobs that this control plane sent to the workers because they were due, and how late they were."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        """Add the metrics to `registry`."""
        self._clock = clock
        self._type = BoundedLabels(MAX_TYPES)
        text = "Scheduled jobs that were due and were sent to the workers."
        self._sent = Counter("sickbay_scheduled_jobs_sent", text, ("job_type",), registry=registry)
        text = "From the time a scheduled job was due until it was sent to the workers."
        self._late = Histogram("sickbay_scheduled_job_late_seconds", text, buckets=LATE_SECONDS, registry=registry)

    def released(self, leases: Sequence[ReleaseLease], by: str, error: BaseException | None) -> None:
        """Count those that were sent."""
        if by != BY or error is not None:
            return
        now = self._clock()
        for lease in leases:
            self._sent.labels(self._type(lease.job.job_type)).inc()
            self._late.observe(max(0, now - lease.job.run_at) / 1000)


class ScheduleRunMetrics(Observer):
    """Counts what this control plane made of the times of schedules, and what it saw their jobs end as."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add the metrics to `registry`."""
        text = "Times of schedules that have come, by what became of them."
        runs = Counter("sickbay_schedule_runs", text, ("outcome",), registry=registry)
        self._runs = {outcome: runs.labels(outcome.value) for outcome in RunOutcome}
        text = "From the time of a schedule until its job was in the ledger."
        self._late = Histogram("sickbay_schedule_late_seconds", text, buckets=LATE_SECONDS, registry=registry)
        text = "Jobs of schedules that have ended or were quarantined, by their state."
        ended = Counter("sickbay_schedule_jobs_ended", text, ("state",), registry=registry)
        self._ended = {state: ended.labels(state.value) for state in JobState if state.is_final or state in FAILED}
        self._pauses = Counter("sickbay_schedule_pauses", "Schedules that were paused because a job failed.", registry=registry)

    def schedules_fired(self, fired: Sequence[Fired]) -> None:
        """Count the times; an entry may stand for several."""
        for one in fired:
            for run in one.runs:
                self._runs[run.outcome].inc(run.count)
            if any(run.outcome is RunOutcome.SUBMITTED for run in one.runs):
                self._late.observe(one.late_ms / 1000)

    def schedule_jobs_changed(self, news: Sequence[tuple[Schedule, ScheduleRun]]) -> None:
        """Count jobs that have ended, and schedules that were paused for it."""
        for schedule, run in news:
            if run.job_state in self._ended:
                self._ended[run.job_state].inc()
            if run.job_state in FAILED and schedule.spec.pause_on_failure and schedule.state is ScheduleState.PAUSED:
                self._pauses.inc()


class ScheduleCollector(Collector):
    """Reads in `refresh`, reports in `collect`. What could not be read is omitted, never made up."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        jobs: ScheduledJobs,
        schedules: ScheduleStatistics,
        orphans: Callable[[], int] = int,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """Add itself to `registry`. `orphans` says how many schedules come from code that is gone; `now` is in seconds."""
        self._orphans = orphans
        self._overdue = _Throttled(jobs.overdue, now)
        self._counts = _Throttled(lambda: schedules.count_schedules(MAX_FAILING), now)
        registry.register(self)

    async def refresh(self) -> None:
        """Read the ledger, unless that was done a moment ago and took long."""
        await asyncio.gather(self._overdue.refresh(), self._counts.refresh())

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        if self._overdue.answer is not None:
            count, overdue_ms = self._overdue.answer
            yield GaugeMetricFamily("sickbay_scheduled_jobs", "Jobs that are to run later.", count)
            text = "For how long the scheduled job that is due for longest has been due; 0 if none is."
            yield GaugeMetricFamily("sickbay_scheduled_jobs_overdue_seconds", text, overdue_ms / 1000)
        if self._counts.answer is not None:
            yield from _of_schedules(self._counts.answer)
        yield GaugeMetricFamily("sickbay_schedules_orphaned", "Schedules in code that no live worker has any more.", self._orphans())


def _of_schedules(counts: ScheduleCounts) -> Iterable[Metric]:
    states = GaugeMetricFamily("sickbay_schedules", "Schedules, by state.", labels=("state",))
    for state, number in counts.by_state.items():
        states.add_metric((state.value,), number)
    yield states
    text = "For how long the schedule that is due for longest has been due; 0 if none is."
    yield GaugeMetricFamily("sickbay_schedules_overdue_seconds", text, counts.overdue_ms / 1000)
    yield GaugeMetricFamily("sickbay_schedules_buffered", "Schedules with a time that waits for the end of a job.", counts.buffered)
    yield GaugeMetricFamily("sickbay_schedule_jobs_running", "Jobs of schedules that have not ended.", counts.running)
    yield GaugeMetricFamily("sickbay_schedules_failing", "Schedules whose latest job failed.", counts.failing)
    text = "1 for a schedule whose latest job failed; of `other` how many have no series of their own."
    failing = GaugeMetricFamily("sickbay_schedule_failing", text, labels=("tenant", "schedule_id"))
    own = [key for key in counts.named if key.tenant != OTHER or key.schedule_id != OTHER]
    for key in own:
        failing.add_metric(key, 1)
    if rest := counts.failing - len(own):
        failing.add_metric((OTHER, OTHER), rest)
    yield failing


class _Throttled(Generic[T]):
    """An answer of the ledger, which is asked again at most so often that it is busy with that for SHARE of the time."""

    def __init__(self, ask: Callable[[], Awaitable[T]], now: Callable[[], float]) -> None:
        self._ask, self._now = ask, now
        self._again_at = float("-inf")
        self.answer: T | None = None

    async def refresh(self) -> None:
        began = self._now()
        if began < self._again_at:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.answer = await self._ask()
        except (Unavailable, TimeoutError):
            self.answer = None
        ended = self._now()
        self._again_at = ended + (ended - began) * (1 / SHARE - 1)
