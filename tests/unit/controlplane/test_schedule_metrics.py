"""What the control plane tells of jobs that run later, and of schedules."""

import re
from dataclasses import replace

import pytest

from controlplane import schedule_metrics
from controlplane.dispatcher import BY, Dispatcher
from controlplane.flow_metrics import ReleaseMetrics
from controlplane.release import Releaser
from controlplane.schedule_metrics import ScheduleCollector, ScheduledJobMetrics, ScheduleRunMetrics
from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.schedule import RunOutcome, Schedule, ScheduleKey, ScheduleRun, ScheduleSpec, ScheduleState, Timing, Trigger
from sickbay.fleet import FleetView
from sickbay.observer import Observers
from sickbay.ports.schedule_counts import ScheduleCounts
from sickbay.ports.schedules import Fired
from sickbay.submission.lanes import LaneChoice
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.embedded_backends import open_backends
from tests.support.scraped_metrics import numbers


@pytest.fixture
def told():
    return MetricsRegistry("controlplane")


def later(job_id, run_at, job_type="email"):
    return JobEvent(Job(job_id, job_type, b"{}", submitted_at=1, run_at=run_at), JobState.SCHEDULED, 1)


def collector(told, backends, **parts):
    """One for which reading takes no time, so it does so at each scrape."""
    kept = {"jobs": backends.scheduled_jobs, "schedules": backends.schedule_statistics, "now": lambda: 0.0} | parts
    scraped = ScheduleCollector(told.registry, **kept)
    told.before_scrape = scraped.refresh
    return scraped


async def test_scheduled_jobs_and_how_long_one_has_been_due_are_asked_at_each_scrape(told):
    async with open_backends() as backends:
        collector(told, backends)
        assert await numbers(told, "sickbay_scheduled_jobs") == {(): 0}
        now = backends.clock.now
        await backends.writer.apply([later("a", now + 1_000), later("b", now + 9_000)])
        assert await numbers(told, "sickbay_scheduled_jobs") == {(): 2}
        assert await numbers(told, "sickbay_scheduled_jobs_overdue_seconds") == {(): 0}
        backends.clock.now += 3_500
        assert await numbers(told, "sickbay_scheduled_jobs_overdue_seconds") == {(): 2.5}


async def test_what_does_not_answer_is_left_out(told):
    async with open_backends() as backends:
        backends.scheduled_jobs.fail("overdue")
        backends.schedule_statistics.fail("count_schedules")
        collector(told, backends)
        body, _ = await told.text("")
        assert set(re.findall(rb"^sickbay_schedule\w+", body, re.MULTILINE)) == {b"sickbay_schedules_orphaned"}
        assert await numbers(told, "sickbay_schedules") == {(state.value,): 0 for state in ScheduleState}


class Counted:
    """Statistics that take their time."""

    def __init__(self, counts, takes_s=0.0):
        self.counts, self.takes_s, self.asked, self.now = counts, takes_s, [], 100.0

    async def count_schedules(self, named):
        self.asked.append(named)
        self.now += self.takes_s
        return self.counts


async def test_failing_schedules_have_a_series_each_up_to_a_limit(told, monkeypatch):
    """Sums stay true, and one that is really called `other` is part of the rest."""
    monkeypatch.setattr(schedule_metrics, "MAX_FAILING", 3)
    named = [ScheduleKey("acme", "nightly"), ScheduleKey("default", "hourly"), ScheduleKey("other", "other")]
    counts = ScheduleCounts(dict.fromkeys(ScheduleState, 4), overdue_ms=1_500, buffered=2, running=6, failing=8, named=named)
    async with open_backends() as backends:
        collector(told, backends, schedules=Counted(counts), orphans=lambda: 3)
        assert await numbers(told, "sickbay_schedules_orphaned") == {(): 3}
        assert await numbers(told, "sickbay_schedule_failing") == {
            ("nightly", "acme"): 1,
            ("hourly", "default"): 1,
            ("other", "other"): 6,
        }
        assert await numbers(told, "sickbay_schedules_failing") == {(): 8}
        assert await numbers(told, "sickbay_schedules_overdue_seconds") == {(): 1.5}
        assert await numbers(told, "sickbay_schedules_buffered") == {(): 2}
        assert await numbers(told, "sickbay_schedule_jobs_running") == {(): 6}


async def test_a_count_that_takes_long_is_not_repeated_at_every_scrape(told):
    """It may keep the ledger busy for a twentieth of the time."""
    counted = Counted(ScheduleCounts(dict.fromkeys(ScheduleState, 1)), takes_s=2.0)
    async with open_backends() as backends:
        scraped = collector(told, backends, schedules=counted, now=lambda: counted.now)
        await scraped.refresh()
        counted.now += 37.9
        await scraped.refresh()
        assert counted.asked == [100]
        assert await numbers(told, "sickbay_schedules") == {(state.value,): 1 for state in ScheduleState}
        counted.now += 0.2
        await scraped.refresh()
        assert counted.asked == [100, 100]


async def test_due_jobs_that_are_sent_are_counted_with_how_late_they_were(told):
    """They are no releases from quarantine."""
    async with open_backends() as backends:
        observer = Observers([ReleaseMetrics(told.registry), ScheduledJobMetrics(told.registry, backends.clock)])
        fleet = FleetView(backends.workers, backends.broker)
        releaser = Releaser(backends.broker, backends.quarantine, by=BY, observer=observer, fleet=fleet)
        dispatcher = Dispatcher(backends.scheduled_jobs, backends.broker, releaser, LaneChoice(fleet))
        now = backends.clock.now
        await backends.writer.apply([later("a", now + 1_000), later("b", now + 4_000, "sms"), later("c", now + 60_000)])
        backends.clock.now += 4_020
        await dispatcher.send_due()
        assert await numbers(told, "sickbay_scheduled_jobs_sent_total") == {("email",): 1, ("sms",): 1}
        assert await numbers(told, "sickbay_scheduled_job_late_seconds_sum") == {(): pytest.approx(3.04)}
        late = await numbers(told, "sickbay_scheduled_job_late_seconds_bucket")
        assert (late["0.01",], late["0.025",], late["2.5",], late["5.0",]) == (0, 1, 1, 2)
        assert set((await numbers(told, "sickbay_released_jobs_total")).values()) == {0}


async def test_a_publish_that_fails_is_counted_as_an_interrupted_release_and_sends_nothing(told):
    async with open_backends() as backends:
        observer = Observers([ReleaseMetrics(told.registry), ScheduledJobMetrics(told.registry, backends.clock)])
        fleet = FleetView(backends.workers, backends.broker)
        releaser = Releaser(backends.broker, backends.quarantine, by=BY, observer=observer, fleet=fleet)
        dispatcher = Dispatcher(backends.scheduled_jobs, backends.broker, releaser, LaneChoice(fleet))
        await backends.writer.apply([later("a", backends.clock.now + 1_000)])
        backends.clock.now += 1_000
        backends.broker.fail("publish")
        with pytest.raises(Exception, match="publish failed"):
            await dispatcher.send_due()
        assert await numbers(told, "sickbay_release_failures_total") == {(): 1}
        assert await numbers(told, "sickbay_scheduled_jobs_sent_total") == {}


def fired(*runs, late_ms=0):
    schedule = Schedule(ScheduleKey("default", "nightly"), ScheduleSpec("report", Timing(every_ms=60_000)))
    return Fired(schedule, runs, late_ms)


def run_of(outcome, count=1):
    return ScheduleRun(5_000, Trigger.TICK, outcome, count=count)


async def test_what_became_of_times_is_counted_by_times_not_by_entries(told):
    """Every outcome has its series from the start, so that `increase` sees the first one."""
    metrics = ScheduleRunMetrics(told.registry)
    assert await numbers(told, "sickbay_schedule_runs_total") == {(outcome.value,): 0 for outcome in RunOutcome}
    metrics.schedules_fired(
        [
            fired(run_of(RunOutcome.MISSED, 40), run_of(RunOutcome.SUBMITTED), run_of(RunOutcome.SKIPPED_OVERLAP, 2), late_ms=90_000),
            fired(run_of(RunOutcome.SKIPPED_CIRCUIT_OPEN), late_ms=5_000),
        ]
    )
    counted = await numbers(told, "sickbay_schedule_runs_total")
    assert counted == {("MISSED",): 40, ("SUBMITTED",): 1, ("SKIPPED_OVERLAP",): 2, ("SKIPPED_CIRCUIT_OPEN",): 1}
    assert await numbers(told, "sickbay_schedule_late_seconds_sum") == {(): 90}
    assert await numbers(told, "sickbay_schedule_late_seconds_count") == {(): 1}


async def test_jobs_that_ended_are_counted_and_schedules_that_were_paused_for_it(told):
    """Not one that somebody paused, nor jobs that go on."""
    metrics = ScheduleRunMetrics(told.registry)
    careful = replace(fired().schedule, spec=replace(fired().schedule.spec, pause_on_failure=True))
    paused = replace(careful, state=ScheduleState.PAUSED)
    by_hand = replace(fired().schedule, state=ScheduleState.PAUSED)
    states = [
        (paused, JobState.QUARANTINED),
        (paused, JobState.SUCCEEDED),
        (by_hand, JobState.QUARANTINED),
        (careful, JobState.RUNNING),
        (careful, JobState.CANCELLED),
    ]
    metrics.schedule_jobs_changed([(schedule, replace(run_of(RunOutcome.SUBMITTED), job_state=state)) for schedule, state in states])
    ended = await numbers(told, "sickbay_schedule_jobs_ended_total")
    assert ended == {("QUARANTINED",): 2, ("SUCCEEDED",): 1, ("CANCELLED",): 1, ("DISCARDED",): 0}
    assert await numbers(told, "sickbay_schedule_pauses_total") == {(): 1}
