"""Of what handlers say about their progress the newest is passed on, once per second and run, and nothing after the run."""

import asyncio
import threading

import pytest

from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.progress import Progress
from sickbay.domain.run_context import RunContext, bind, unbind
from sickbay.messages.outbox import EventOutbox
from tests.support.clock import START, ManualClock
from tests.support.engine_bench import StubBroker
from worker.progress import INTERVAL_S, ProgressReports


class Timers:
    """Stands in for `call_later`: time passes when the test says so."""

    def __init__(self):
        self._due = []

    def __call__(self, seconds, callback, *args):
        assert seconds == INTERVAL_S
        timer = Timer(callback, args)
        self._due.append(timer)
        return timer

    def __len__(self):
        return sum(not timer.cancelled for timer in self._due)

    def pass_a_second(self):
        due, self._due = self._due, []
        for timer in due:
            if not timer.cancelled:
                timer.callback(*timer.args)


class Timer:
    def __init__(self, callback, args):
        self.callback, self.args, self.cancelled = callback, args, False

    def cancel(self):
        self.cancelled = True


class Events:
    """What is passed on."""

    def __init__(self):
        self.events = []

    def report_start(self, event):
        self.events.append(event)

    @property
    def said(self):
        return [(event.progress.fraction, event.progress.message) for event in self.events]


class Bench:
    def __init__(self, redact=str):
        self.clock, self.events, self.timers = ManualClock(), Events(), Timers()
        self.reports = ProgressReports(self.events, self.clock, redact, self.timers)

    def begin(self, name="j"):
        job = Job(name, "email")
        started = JobEvent(job, JobState.RUNNING, START, started_at=START, run=f"w.{name}", actor="w")
        bind(job, RunContext(self.reports.of_run(started)))
        return started


async def turn():
    """Let the loop do what other threads have asked for."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.fixture
async def bench():
    return Bench()


async def test_the_first_report_is_passed_on_at_once_as_an_event_of_the_run(bench):
    started = bench.begin()
    bench.clock.now += 300
    started.job.progress(0.25, "a quarter")
    await turn()
    (event,) = bench.events.events
    assert event.progress == Progress(0.25, "a quarter", START + 300)
    assert (event.state, event.run, event.started_at, event.at, event.actor) == (JobState.RUNNING, "w.j", START, START + 300, "w")


async def test_then_the_newest_of_each_second(bench):
    job = bench.begin().job
    for number in range(1, 101):
        job.progress(number / 100, str(number))
        await turn()
    assert bench.events.said == [(0.01, "1")]
    bench.timers.pass_a_second()
    assert bench.events.said == [(0.01, "1"), (1.0, "100")]
    job.progress(0.5, "back")
    await turn()
    assert len(bench.events.said) == 2
    bench.timers.pass_a_second()
    assert bench.events.said[2:] == [(0.5, "back")]


async def test_after_a_silent_second_the_next_report_is_passed_on_at_once_again(bench):
    job = bench.begin().job
    job.progress(0.1)
    await turn()
    bench.timers.pass_a_second()
    assert len(bench.timers) == 0
    job.progress(0.2)
    await turn()
    assert bench.events.said == [(0.1, ""), (0.2, "")]


async def test_nothing_is_passed_on_after_the_run(bench):
    started = bench.begin()
    started.job.progress(0.1)
    await turn()
    started.job.progress(0.2)
    unbind(started.job)
    bench.reports.end(started)
    assert len(bench.timers) == 0
    started.job.progress(0.3)
    await turn()
    bench.timers.pass_a_second()
    assert bench.events.said == [(0.1, "")]


async def test_a_report_that_is_on_its_way_when_the_run_ends_is_dropped(bench):
    started = bench.begin()
    started.job.progress(0.1)
    unbind(started.job)
    bench.reports.end(started)
    await turn()
    assert bench.events.said == []
    assert len(bench.timers) == 0


async def test_each_run_has_its_own_second(bench):
    first, second = bench.begin("a"), bench.begin("b")
    first.job.progress(0.1)
    second.job.progress(0.2)
    await turn()
    assert bench.events.said == [(0.1, ""), (0.2, "")]
    unbind(first.job)
    bench.reports.end(first)
    second.job.progress(0.3)
    bench.timers.pass_a_second()
    assert bench.events.said[2:] == [(0.3, "")]


async def test_many_threads_report_at_once(bench):
    """One of the first reports is passed on, and then the last of all."""
    job = bench.begin().job

    def report():
        for number in range(1_000):
            job.progress(number / 1_000)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    await turn()
    assert len(bench.events.said) == 1
    bench.timers.pass_a_second()
    assert bench.events.said[1:] in ([], [(0.999, "")])
    assert len(bench.timers) <= 1


async def test_secrets_and_what_no_store_can_hold_are_taken_out():
    bench = Bench(redact=lambda text: text.replace("secret", "***"))
    bench.begin().job.progress(0.5, "the secret of \ud800\0")
    await turn()
    assert bench.events.said == [(0.5, "the *** of \\ud800\\x00")]


async def test_while_the_broker_is_away_one_event_waits_for_each_run():
    """In the real outbox: the newest, and none once the run has ended."""
    broker = StubBroker([])
    clock, timers = ManualClock(), Timers()
    async with EventOutbox(broker, linger_s=60) as outbox:
        reports = ProgressReports(outbox, clock, str, timers)
        runs = [JobEvent(Job(name, "email"), JobState.RUNNING, START, started_at=START, run=f"w.{name}") for name in ("a", "b")]
        for run in runs:
            outbox.report_start(run)
            bind(run.job, RunContext(reports.of_run(run)))
        for number in range(1, 10):
            for run in runs:
                run.job.progress(number / 10)
            await turn()
            timers.pass_a_second()
        unbind(runs[1].job)
        reports.end(runs[1])
        outbox.add(JobEvent(runs[1].job, JobState.SUCCEEDED, START, started_at=START, run="w.b"))
        await outbox.flush()
    told = [(event.job.job_id, event.state, event.progress and event.progress.fraction) for event in broker.events()]
    assert told == [("a", JobState.RUNNING, 0.9), ("b", JobState.SUCCEEDED, None)]
