"""Job types with one dependency: what the healer releases and probes, and what BreakerService answers."""

import logging

import pytest

from controlplane import leftover_breakers
from controlplane.breaker_service import BreakerApi
from controlplane.metrics import FleetMetrics
from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, BreakerState, Command, DependencyRule
from sickbay.domain.errors import ErrorReason, FailedPrecondition, NotFound
from sickbay.domain.outcome import SUCCESS, Outcome, kind_of
from sickbay.ports import Queue
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.clock import START
from tests.support.embedded_backends import open_backends
from tests.support.quarantine_events import EMAIL, parked, set_aside, take
from tests.support.scraped_metrics import numbers
from tests.unit.controlplane.test_healer import healing, look

SMTP = BreakerKey("dependency:smtp")
DOWN = Outcome(kind_of("API_TIMEOUT"), "API_TIMEOUT", "slow")


class File:
    """The dependencies of a settings file that a test may change."""

    def __init__(self, **dependencies):
        self.dependencies = dependencies
        self.rule = DependencyRule(BreakerScope.TYPE, lambda: self.dependencies)


@pytest.fixture
def file():
    return File(email="smtp", sms="smtp")


async def fail(backends, key, times=5):
    for n in range(times):
        await backends.breakers.settle(await backends.breakers.admit(key, f"f{n}"), DOWN)


async def released(backends):
    count = await backends.broker.depth(Queue.MAIN)
    return sorted(job.job_id for job in await take(backends, Queue.MAIN, count)) if count else []


async def test_one_probe_and_one_release_for_all_types_that_take_turns(file):
    """Two types behind one open breaker: a single job at each cooldown, and both come back when it has closed."""
    async with open_backends() as backends:
        await fail(backends, SMTP)
        await set_aside(backends, *(parked(f"{kind}{n}", START + n, job_type=kind) for kind in ("email", "sms") for n in range(2)))
        healer = healing(backends, scope=file.rule)
        assert await look(healer) == pytest.approx(60)
        assert await released(backends) == []
        for expected in ("email0", "sms0"):
            backends.clock.now += 60_000
            await look(healer)
            assert await released(backends) == [expected], "one job for both types, which take turns"
        permit = await backends.breakers.admit(SMTP, "sms0", released=True)
        await backends.breakers.settle(permit, SUCCESS)
        backends.clock.now += 1_000
        await look(healer)
        assert await released(backends) == ["email1", "sms1"]


async def test_jobs_that_a_types_own_breaker_parked_are_released_by_the_shared_one(file):
    """The file has changed since; the other way round, too."""
    async with open_backends() as backends:
        file.dependencies = {}
        await fail(backends, EMAIL)
        await set_aside(backends, parked("a"))
        healer = healing(backends, scope=file.rule)
        await look(healer)
        assert await released(backends) == []
        file.dependencies = {"email": "smtp"}
        await look(healer)
        assert await released(backends) == ["a"]
        await fail(backends, SMTP)
        await set_aside(backends, parked("b"))
        await look(healer)
        assert await released(backends) == []
        file.dependencies = {}
        await backends.breakers.command(EMAIL, Command(Action.RESET))
        backends.clock.now += 10_000
        await look(healer)
        assert await released(backends) == ["b"]


async def test_a_leftover_hold_is_named_once_and_deleted_when_all_have_read_the_file(file, caplog):
    """Another control plane may still use it."""
    async with open_backends() as backends:
        await backends.breakers.command(EMAIL, Command(Action.FORCE_OPEN, by="ada", why="they move"))
        await backends.breakers.command(BreakerKey("dependency:old"), Command(Action.DISABLE))
        healer = healing(backends, scope=file.rule)
        with caplog.at_level(logging.WARNING):
            await look(healer)
            backends.clock.now += leftover_breakers.UNUSED_MS - 1
            await look(healer)
        named = sorted(record.getMessage() for record in caplog.records if record.name == leftover_breakers.__name__)
        assert named == [
            "DISABLED no longer holds for any job: no job type has the dependency old any more (settings file)",
            "FORCED_OPEN no longer holds for the email jobs (by ada: they move): they share dependency:smtp now (settings file)",
        ]
        assert {one.key: one.state for one in await backends.breakers.snapshots()} == {
            BreakerKey("dependency:old"): BreakerState.DISABLED,
            EMAIL: BreakerState.FORCED_OPEN,
        }
        backends.clock.now += 1
        await look(healer)
        assert {one.state for one in await backends.breakers.snapshots()} <= {BreakerState.CLOSED}


async def test_a_hold_that_is_in_use_again_is_kept(file):
    """The change of the file was taken back."""
    async with open_backends() as backends:
        await backends.breakers.command(EMAIL, Command(Action.FORCE_OPEN))
        healer = healing(backends, scope=file.rule)
        await look(healer)
        file.dependencies = {}
        backends.clock.now += leftover_breakers.UNUSED_MS
        await look(healer)
        file.dependencies = {"email": "smtp"}
        await look(healer)
        assert [one.state for one in await backends.breakers.snapshots()] == [BreakerState.FORCED_OPEN]


def api_of(backends, file):
    return BreakerApi(backends.breakers, backends.broker, backends.writer, backends.clock, scope=file.rule)


async def test_every_name_of_a_shared_breaker_reads_and_changes_it(file):
    """The answer has the name that was asked for, and says who shares it."""
    async with open_backends() as backends:
        api = api_of(backends, file)
        for name in ("email", "sms", "dependency:smtp"):
            held = (await api.ForceOpenBreaker(pb.ForceOpenBreakerRequest(job_type=name, actor=name), None)).breaker
            shown = (await api.GetBreaker(pb.GetBreakerRequest(job_type="sms"), None)).breaker
            assert (held.job_type, held.dependency, list(held.job_types)) == (name, "smtp", ["email", "sms"])
            assert (shown.job_type, shown.dependency, shown.forced_by) == ("sms", "smtp", name)
        assert await backends.breakers.keys() == [SMTP]
        (listed,) = (await api.ListBreakers(pb.ListBreakersRequest(), None)).breakers
        assert (listed.job_type, listed.dependency, list(listed.job_types)) == ("dependency:smtp", "smtp", ["email", "sms"])
        reset = (await api.ResetBreaker(pb.ResetBreakerRequest(job_type="email"), None)).breaker
        assert (reset.job_type, reset.dependency) == ("email", "smtp")


async def test_a_watch_of_a_type_sends_the_shared_breaker_under_its_name(file):
    """One of all sends it once."""
    async with open_backends() as backends:
        api = api_of(backends, file)
        await backends.breakers.command(SMTP, Command(Action.DISABLE))
        await backends.breakers.command(BreakerKey("push"), Command(Action.DISABLE))
        for asked, expected in (("sms", ["sms"]), ("dependency:smtp", ["dependency:smtp"]), ("", ["dependency:smtp", "push"])):
            watch = api.WatchBreakers(pb.WatchBreakersRequest(job_type=asked), None)
            assert [(await anext(watch)).breaker.job_type for _ in expected] == expected
            await watch.aclose()


async def test_an_unknown_dependency_and_a_tenant_that_shares_are_refused(file):
    """As for types."""
    async with open_backends() as backends:
        api = api_of(backends, file)
        with pytest.raises(NotFound, match="dependency 'ftp' not found") as caught:
            await api.DisableBreaker(pb.DisableBreakerRequest(job_type="dependency:ftp"), None)
        assert caught.value.reason is ErrorReason.BREAKER_NOT_FOUND
        with pytest.raises(NotFound, match="jobType 'sms' not found"):
            await api.GetBreaker(pb.GetBreakerRequest(job_type="sms"), None)
        with pytest.raises(FailedPrecondition, match="all tenants share the breaker of email"):
            await api.DisableBreaker(pb.DisableBreakerRequest(job_type="email", tenant="acme"), None)


async def test_a_closed_leftover_is_not_listed(file):
    """The jobs of its type ask the shared one; an open one is shown, because older workers may use it."""
    async with open_backends() as backends:
        api = api_of(backends, file)
        await backends.breakers.settle(await backends.breakers.admit(EMAIL, "a"), SUCCESS)
        await backends.breakers.settle(await backends.breakers.admit(SMTP, "a"), SUCCESS)
        listed = (await api.ListBreakers(pb.ListBreakersRequest(), None)).breakers
        assert [one.job_type for one in listed] == ["dependency:smtp"]
        await fail(backends, EMAIL)
        listed = (await api.ListBreakers(pb.ListBreakersRequest(), None)).breakers
        assert [one.job_type for one in listed] == ["dependency:smtp", "email"]


async def test_metrics_have_the_state_of_each_type_once(file):
    """Alerts are about job types; a leftover of a type that has another breaker is left out."""
    async with open_backends() as backends:
        await fail(backends, SMTP)
        await backends.breakers.command(EMAIL, Command(Action.DISABLE))
        told = MetricsRegistry("controlplane")
        fleet = FleetMetrics(
            told.registry,
            breakers=backends.breakers,
            broker=backends.broker,
            ledger=backends.writer,
            quarantine=backends.quarantine,
            lost=backends.lost,
            incidents=backends.incidents,
            clock=backends.clock,
            scope=file.rule,
        )
        await fleet.refresh()
        states = await numbers(told, "sickbay_breaker_state")
        assert {labels for labels, is_it in states.items() if is_it} == {("email", "OPEN", "default"), ("sms", "OPEN", "default")}
