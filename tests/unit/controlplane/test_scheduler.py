"""The loop that lets schedules fire: when it looks, what it asks before, whom it tells, and what it does when something is away."""

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from controlplane.scheduler import LOOK_S, PRUNE_EVERY_S, PRUNE_RETRY_S, Scheduler
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, Command
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.schedule import RUN_RETENTION_MS, RunOutcome, ScheduleKey, job_id_of
from sickbay.observer import Observer
from tests.support.clock import START, ManualClock
from tests.support.embedded_backends import open_backends
from tests.support.schedules import KEY, of_job, schedule

OTHER = ScheduleKey("acme", "other")


class Notes(Observer):
    """What was told."""

    def __init__(self):
        self.fired, self.changed = [], []

    def schedules_fired(self, fired):
        self.fired += fired

    def schedule_jobs_changed(self, news):
        self.changed += [(run.job_id, run.job_state) for _, run in news]


@asynccontextmanager
async def opened(*schedules, scope=BreakerScope.TYPE):
    clock, notes, sent = ManualClock(), Notes(), asyncio.Event()
    async with open_backends(clock) as backends:
        scheduler = Scheduler(backends.schedules, backends.breakers, scope, on_fired=sent.set, observer=notes)
        for one in schedules:
            await backends.schedules.create_schedule(one)
        yield SimpleNamespace(clock=clock, notes=notes, sent=sent, backends=backends, scheduler=scheduler)


@asynccontextmanager
async def running(scheduler):
    task = asyncio.create_task(scheduler.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def outcomes(env, *keys):
    return [[run.outcome for run in (await env.backends.schedules.list_runs(key, None, 10, "")).items] for key in keys]


async def test_it_sleeps_until_the_next_is_due_and_a_second_at_most():
    async with opened() as env:
        assert await env.scheduler.fire_due() == LOOK_S
        await env.backends.schedules.create_schedule(schedule(every_ms=5_000))
        assert await env.scheduler.fire_due() == LOOK_S
        env.clock.now += 4_600
        assert await env.scheduler.fire_due() == pytest.approx(0.4)
        assert not env.sent.is_set()


async def test_what_is_due_fires_and_the_jobs_may_go_out_at_once():
    async with opened(schedule()) as env:
        env.clock.now += 1_250
        assert await env.scheduler.fire_due() == pytest.approx(0.75)
        assert env.sent.is_set()
        ((fired),) = env.notes.fired
        assert (fired.schedule.key, fired.late_ms, [run.tick_at for run in fired.runs]) == (KEY, 250, [START + 1_000])
        assert await env.backends.scheduled_jobs.next_ms() == -250


async def test_more_than_a_batch_fires_in_one_go(monkeypatch):
    monkeypatch.setattr("controlplane.scheduler.BATCH", 2)
    names = [ScheduleKey("default", f"s{number}") for number in range(7)]
    async with opened(*(schedule(key=name) for name in names)) as env:
        env.clock.now += 1_000
        assert await env.scheduler.fire_due() == 1.0
        assert sorted(one.schedule.key for one in env.notes.fired) == names


async def test_what_another_control_plane_lets_fire_is_looked_at_again_soon():
    async with opened(schedule()) as env:
        env.clock.now += 1_000

        class Taken:
            next_due_ms = env.backends.schedules.next_due_ms

            async def fire_due(self, *_):
                return []

        assert await Scheduler(Taken(), env.backends.breakers, BreakerScope.TYPE).fire_due() == LOOK_S / 10


async def test_it_hears_of_changes_and_of_time():
    async with opened() as env, running(env.scheduler):
        await env.backends.schedules.create_schedule(schedule(next_at=START))
        env.scheduler.wake()
        async with asyncio.timeout(5):
            await env.sent.wait()


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        (BreakerScope.TYPE, [RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.SKIPPED_CIRCUIT_OPEN]),
        (BreakerScope.TENANT, [RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.SUBMITTED]),
    ],
)
async def test_the_circuit_is_the_one_that_decides_about_the_job(scope, wanted):
    both = [schedule(key=key, while_open="SKIP") for key in (KEY, OTHER)]
    async with opened(*both, scope=scope) as env:
        await env.backends.breakers.command(BreakerKey("email"), Command(Action.FORCE_OPEN))
        env.clock.now += 1_000
        await env.scheduler.fire_due()
        assert await outcomes(env, KEY, OTHER) == [[outcome] for outcome in wanted]


async def test_circuits_are_asked_only_when_something_is_due(monkeypatch):
    async with opened(schedule()) as env:
        asked = []

        async def snapshots():
            asked.append(env.clock.now)
            return []

        monkeypatch.setattr(env.backends.breakers._inner, "snapshots", snapshots)
        await env.scheduler.fire_due()
        env.clock.now += 1_000
        await env.scheduler.fire_due()
        await env.scheduler.fire_due()
        assert asked == [START + 1_000]


async def test_without_the_circuits_schedules_fire_all_the_same(caplog):
    async with opened(schedule(while_open="SKIP")) as env:
        env.backends.breakers.fail("snapshots")
        env.clock.now += 1_000
        await env.scheduler.fire_due()
        assert await outcomes(env, KEY) == [[RunOutcome.SUBMITTED]]
        assert "schedules fire without knowing which circuits are open" in caplog.text


async def test_without_the_ledger_it_waits_and_then_goes_on(caplog):
    async with opened(schedule()) as env:
        env.scheduler._backoff._first_s = 0.001
        env.clock.now += 1_000
        env.backends.schedules.fail("settle_runs")
        env.backends.schedules.fail("fire_due", 2)
        with caplog.at_level(logging.WARNING):
            async with running(env.scheduler), asyncio.timeout(5):
                await env.sent.wait()
        assert caplog.text.count("schedules are suspended, retrying in") == 3
        assert await outcomes(env, KEY) == [[RunOutcome.SUBMITTED]]


async def test_an_answer_that_was_lost_makes_nothing_fire_twice():
    """The ledger has committed, and nobody heard."""
    async with opened(schedule()) as env:
        env.clock.now += 1_000
        env.backends.schedules.fail("fire_due", after=True)
        with pytest.raises(Unavailable):
            await env.scheduler.fire_due()
        await env.scheduler.fire_due()
        assert await outcomes(env, KEY) == [[RunOutcome.SUBMITTED]]
        assert await env.backends.scheduled_jobs.overdue() == (1, 0)


async def test_what_becomes_of_jobs_is_told():
    async with opened(schedule()) as env:
        env.clock.now += 1_000
        await env.scheduler.fire_due()
        await env.scheduler.follow()
        assert env.notes.changed == []
        job_id = job_id_of(KEY, START + 1_000)
        await of_job(env.backends, job_id, JobState.SUCCEEDED)
        await env.scheduler.follow()
        assert env.notes.changed == [(job_id, JobState.SUCCEEDED)]


async def test_old_runs_are_deleted_once_an_hour(caplog):
    async with opened(schedule()) as env:
        for _ in range(2):
            env.clock.now += 1_000
            await env.scheduler.fire_due()
        env.clock.now += RUN_RETENTION_MS + 1
        with caplog.at_level(logging.INFO):
            wait_s = await env.scheduler.prune_once()
        assert 0.8 * PRUNE_EVERY_S <= wait_s <= 1.2 * PRUNE_EVERY_S
        assert "1 runs of schedules were deleted after 30 days" in caplog.text
        env.backends.schedules.fail("prune_runs", 2)
        first, second = [await env.scheduler.prune_once() for _ in range(2)]
        assert 0.8 * PRUNE_RETRY_S <= first <= 1.2 * PRUNE_RETRY_S < second
