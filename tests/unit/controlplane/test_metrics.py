"""What the control plane counts, and what it asks the fleet at each scrape."""

import asyncio

import pytest

from controlplane import flow_metrics
from controlplane import metrics as metrics_module
from controlplane.flow_metrics import HeldBackCollector, LedgerIngestMetrics, ReconcileMetrics, ReleaseMetrics, TransitionMetrics
from controlplane.metrics import FleetMetrics
from controlplane.release import Releaser
from sickbay.domain.backend_status import BackendStatus
from sickbay.domain.breaker import Action, BreakerKey, BreakerState, Command
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.queries import ReconcileResult
from sickbay.observer import Observers
from sickbay.telemetry.backends import BackendStatusCollector
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.clock import ManualClock
from tests.support.embedded_backends import open_backends
from tests.support.scraped_metrics import numbers


@pytest.fixture
def told():
    return MetricsRegistry("worker")


def parked(job_id, job_type="email", tenant="default"):
    return JobEvent(Job(job_id, job_type, b"{}", tenant=tenant, submitted_at=1), JobState.PARKED, 5, reason=Reason.CIRCUIT_OPEN)


async def test_the_fleet_is_asked_at_each_scrape_and_what_does_not_answer_is_left_out(told):
    async with open_backends() as backends:
        parts = {"breakers": backends.breakers, "broker": backends.broker, "ledger": backends.writer, "quarantine": backends.quarantine}
        fleet = FleetMetrics(told.registry, **parts, lost=backends.lost, incidents=backends.incidents, clock=backends.clock)
        told.before_scrape = fleet.refresh
        await backends.breakers.command(BreakerKey("email"), Command(Action.FORCE_OPEN))
        await backends.writer.apply([parked("a"), parked("b")])
        assert await numbers(told, "sickbay_breaker_state") == {
            ("email", state.value, "default"): float(state is BreakerState.FORCED_OPEN) for state in BreakerState
        }
        assert (await numbers(told, "sickbay_breakers"))["FORCED_OPEN",] == 1
        assert await numbers(told, "sickbay_parked_jobs") == {("email", "default"): 2}
        assert await numbers(told, "sickbay_quarantine_surplus") == {(): -2}
        queues = ("high", "main", "demoted", "low", "retry", "quarantine", "ledger")
        assert (await numbers(told, "sickbay_queue_messages")).keys() == {(f"jobs.{queue}",) for queue in queues}
        assert await numbers(told, "sickbay_oldest_unfinished_job_seconds") == {}
        await backends.writer.apply([JobEvent(Job("c", "sms"), JobState.QUEUED, backends.clock.now - 7_000)])
        assert await numbers(told, "sickbay_oldest_unfinished_job_seconds") == {("sms", "QUEUED"): 7.0}
        backends.lost.fail("oldest")
        assert await numbers(told, "sickbay_oldest_unfinished_job_seconds") == {}
        backends.writer.fail("counts")
        backends.breakers.fail("snapshots")
        body, _ = await told.text("")
        for name in ("sickbay_ledger_jobs{", "sickbay_breakers{", "sickbay_breaker_state{", "sickbay_quarantine_surplus "):
            assert f"\n{name}" not in body.decode()
        assert await numbers(told, "sickbay_parked_jobs") == {("email", "default"): 2}


async def test_what_is_beyond_the_limit_is_added_up_and_the_type_other_with_it(told, monkeypatch):
    """Sums stay true and there is one series more, however many names there are."""
    monkeypatch.setattr(metrics_module, "MAX_BREAKERS", 2)
    names = ["other", *(f"type{number}" for number in range(9))]
    async with open_backends() as backends:
        for action, some in ((Action.DISABLE, names[:6]), (Action.FORCE_OPEN, names[6:])):
            for name in some:
                await backends.breakers.command(BreakerKey(name), Command(action))
        events = [parked(f"{name}{number}", name) for place, name in enumerate(names) for number in range(place + 1)]
        await backends.writer.apply([*events, parked("a", "type8", "other")])
        parts = {"breakers": backends.breakers, "broker": backends.broker, "ledger": backends.writer, "quarantine": backends.quarantine}
        parts["incidents"] = backends.incidents
        told.before_scrape = FleetMetrics(told.registry, **parts, lost=backends.lost, clock=backends.clock).refresh
        states = await numbers(told, "sickbay_breaker_state")
        assert {(kind, tenant) for kind, _, tenant in states} == {("type0", "default"), ("type1", "default"), ("other", "other")}
        assert states["other", "DISABLED", "other"] == 4
        assert {state: total(states, state) for state in BreakerState} == {
            state: number for (state,), number in (await numbers(told, "sickbay_breakers")).items()
        }
        assert (await numbers(told, "sickbay_breaker_cooldown_seconds")).keys() == {("type0", "default"), ("type1", "default")}
        jobs = await numbers(told, "sickbay_parked_jobs")
        assert jobs == {("type8", "default"): 10, ("type7", "default"): 9, ("other", "other"): 1 + sum(range(1, 9))}
        assert sum(jobs.values()) == (await numbers(told, "sickbay_ledger_jobs"))["PARKED",]


def total(states, state):
    return sum(number for (_, of, _), number in states.items() if of == state)


async def test_transitions_are_counted(told):
    async with open_backends() as backends:
        transitions = TransitionMetrics(backends.breakers, told.registry)
        following = asyncio.create_task(transitions.run())
        while not backends.breakers._announcements.watchers:
            await asyncio.sleep(0)
        for action in (Action.FORCE_OPEN, Action.RESET):
            await backends.breakers.command(BreakerKey("email"), Command(action))
            while not (await numbers(told, "sickbay_breaker_transitions_total")).get(("email", _STATES[action])):
                await asyncio.sleep(0)
        following.cancel()
        assert await numbers(told, "sickbay_breaker_transitions_total") == {("email", "FORCED_OPEN"): 1, ("email", "CLOSED"): 1}


_STATES = {Action.FORCE_OPEN: "FORCED_OPEN", Action.RESET: "CLOSED"}


async def test_releases_are_counted_by_whoever_asked(told):
    async with open_backends() as backends:
        await backends.writer.apply([parked("a")])
        releaser = Releaser(backends.broker, backends.quarantine, by="healer", observer=Observers([ReleaseMetrics(told.registry)]))
        claims = await backends.quarantine.lease_parked(BreakerKey("email"), 5)
        backends.broker.fail("publish")
        with pytest.raises(Unavailable):
            await releaser.release(claims)
        await releaser.release(claims)
    assert await numbers(told, "sickbay_released_jobs_total") == {("healer",): 1, ("people",): 0}
    assert await numbers(told, "sickbay_release_failures_total") == {(): 1}


async def test_the_ledgers_batches_and_the_reconcilers_rounds_are_counted(told):
    clock = ManualClock()
    ingest, reconcile = LedgerIngestMetrics(told.registry, clock), ReconcileMetrics(told.registry)
    event = parked("a")
    ingest.ingested([event], 0.1, Unavailable("away"))
    ingest.ingested([event, event], 0.2, None)
    reconcile.reconciled(ReconcileResult(1, ghosts=3, kept=2, adopted=1))
    assert await numbers(told, "sickbay_keeper_lag_seconds") == {(): (clock() - 5) / 1000}
    assert (await numbers(told, "sickbay_ledger_events_total"))["PARKED",] == 2
    assert await numbers(told, "sickbay_ledger_apply_seconds_count") == {(): 1}
    assert await numbers(told, "sickbay_ledger_apply_failures_total") == {(): 1}
    assert await numbers(told, "sickbay_sweep_copies_total") == {("ghost",): 3, ("kept",): 2, ("told",): 1, ("remade",): 0, ("left",): 0}


def test_the_names_of_what_only_a_worker_without_redis_tells(told):
    """Alert rules ask for them, and no healthy system tells them."""
    BackendStatusCollector(BackendStatus(shut_here=lambda: ["email"]), told.registry)
    HeldBackCollector(lambda: {BreakerKey("email"), BreakerKey("email", "other")}, told.registry)
    for name in ("sickbay_breaker_shut_here", "sickbay_releases_held_back"):
        assert told.registry.get_sample_value(name, {"job_type": "email"}) == 1


def test_types_beyond_the_limit_that_are_held_back_are_counted(told, monkeypatch):
    monkeypatch.setattr(flow_metrics, "MAX_TYPES", 1)
    HeldBackCollector(lambda: [BreakerKey("a"), *(BreakerKey(name, tenant) for name in "bc" for tenant in ("x", "y"))], told.registry)
    assert told.registry.get_sample_value("sickbay_releases_held_back", {"job_type": "a"}) == 1
    assert told.registry.get_sample_value("sickbay_releases_held_back", {"job_type": "other"}) == 2
