"""Parked jobs of tenants that share a breaker, and what the breakers of an earlier version do to them."""

import logging

import pytest

from controlplane import leftover_breakers
from controlplane.healer import WINDOW
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, BreakerState, Command
from sickbay.domain.errors import Unavailable
from sickbay.domain.outcome import Outcome, kind_of
from sickbay.ports import Queue
from tests.support.clock import START
from tests.support.embedded_backends import open_backends
from tests.support.quarantine_events import EMAIL, parked, set_aside, take
from tests.unit.controlplane.test_healer import healing, look, open_breaker

ACME = BreakerKey("email", "acme")


async def open_tenants_breaker(backends):
    for n in range(5):
        permit = await backends.breakers.admit(ACME, f"f{n}")
        await backends.breakers.settle(permit, Outcome(kind_of("API_TIMEOUT"), "API_TIMEOUT", "slow"))


async def released(backends):
    count = await backends.broker.depth(Queue.MAIN)
    return sorted(job.job_id for job in await take(backends, Queue.MAIN, count)) if count else []


async def test_the_breaker_of_a_type_holds_and_probes_the_jobs_of_all_tenants():
    async with open_backends() as backends:
        await open_breaker(backends)
        await set_aside(backends, *(parked(f"{tenant}{n}", START + n, tenant=tenant) for tenant in ("a", "b") for n in range(2)))
        healer = healing(backends)
        assert await look(healer) == pytest.approx(60)
        assert await released(backends) == []
        probes = []
        for _ in range(3):
            backends.clock.now += 60_000
            await look(healer)
            probes += await released(backends)
        assert probes == ["a0", "b0", "a1"], "one job each time, the oldest of each tenant in turn"


async def test_a_backlog_of_one_tenant_does_not_hold_up_the_others():
    async with open_backends() as backends:
        await set_aside(backends, *(parked(f"big{n:03}", START, tenant="big") for n in range(2 * WINDOW)))
        await set_aside(backends, parked("late", START + 9_000, tenant="small"))
        await look(healing(backends))
        jobs = await released(backends)
        assert (len(jobs), "late" in jobs) == (WINDOW, True)


async def test_ten_thousand_parked_jobs_of_a_tenant_do_not_delay_five_of_another():
    """Also if each tenant has a breaker of its own: the room for released jobs is then shared by breakers."""
    for scope in BreakerScope:
        async with open_backends() as backends:
            await set_aside(backends, *(parked(f"big{n:05}", START, tenant="big") for n in range(10_000)))
            await set_aside(backends, *(parked(f"small{n}", START + 9_000, tenant="small") for n in range(5)))
            await look(healing(backends, scope=scope))
            jobs = await released(backends)
            assert sum(job.startswith("small") for job in jobs) == 5
            assert sum(job.startswith("big") for job in jobs) == WINDOW - 5


async def test_what_was_leased_is_released_though_the_next_lease_fails():
    async with open_backends() as backends:
        await set_aside(backends, parked("a", tenant="a"), parked("b", tenant="b"))
        healer, lease = healing(backends), backends.quarantine.lease_parked

        async def fails_for_b(owner, limit):
            if owner.tenant == "b":
                raise Unavailable("the ledger is gone")
            return await lease(owner, limit)

        backends.quarantine.lease_parked = fails_for_b
        await look(healer)
        assert await released(backends) == ["a"]
        backends.quarantine.lease_parked = lease
        await look(healer)
        assert await released(backends) == ["b"]


async def test_a_tenant_with_a_breaker_of_its_own_is_held_alone():
    async with open_backends() as backends:
        await open_tenants_breaker(backends)
        await set_aside(backends, parked("a", tenant="acme"), parked("b", tenant="well"))
        await look(healing(backends, scope=BreakerScope.TENANT))
        assert await released(backends) == ["b"]


async def test_jobs_parked_by_an_open_breaker_of_a_tenant_are_released_by_that_of_the_type():
    """The previous version had breakers of tenants; after the upgrade nobody asks them."""
    async with open_backends() as backends:
        await open_tenants_breaker(backends)
        await set_aside(backends, parked("a", tenant="acme"))
        await look(healing(backends))
        assert await released(backends) == ["a"]
        assert await backends.breakers.keys() == [ACME], "workers of the previous version may still use it"


async def test_an_open_breaker_of_a_tenant_is_deleted_when_nobody_has_probed_it_for_long():
    async with open_backends() as backends:
        await open_tenants_breaker(backends)
        healer = healing(backends)
        backends.clock.now += 60_000 + leftover_breakers.UNUSED_MS - 1
        await look(healer)
        assert await backends.breakers.keys() == [ACME]
        backends.clock.now += 1
        await look(healer)
        assert await backends.breakers.keys() == []


@pytest.mark.parametrize("action", [Action.FORCE_OPEN, Action.DISABLE, Action.METRICS_ONLY])
async def test_a_hold_of_a_tenant_ends_with_a_warning_and_parks_nothing(caplog, action):
    async with open_backends() as backends:
        await backends.breakers.command(ACME, Command(action, by="ada", why="they move"))
        await set_aside(backends, parked("a", tenant="acme"))
        with caplog.at_level(logging.WARNING):
            await look(healing(backends))
        assert await released(backends) == ["a"]
        assert await backends.breakers.keys() == []
        [warning] = [record.getMessage() for record in caplog.records if record.name == leftover_breakers.__name__]
        assert "no longer holds for the email jobs of tenant acme (by ada: they move)" in warning


async def test_holds_of_types_and_of_tenants_with_their_own_breakers_stay():
    async with open_backends() as backends:
        await backends.breakers.command(EMAIL, Command(Action.FORCE_OPEN))
        await look(healing(backends))
        await backends.breakers.command(ACME, Command(Action.FORCE_OPEN))
        await look(healing(backends, scope=BreakerScope.TENANT))
        assert {one.key: one.state for one in await backends.breakers.snapshots()} == dict.fromkeys((EMAIL, ACME), BreakerState.FORCED_OPEN)


async def test_a_hold_that_cannot_be_ended_now_is_ended_later():
    async with open_backends() as backends:
        await backends.breakers.command(ACME, Command(Action.FORCE_OPEN))
        await set_aside(backends, parked("a", tenant="acme"))
        healer = healing(backends)
        backends.breakers.fail("command")
        await look(healer)
        await look(healer)
        assert await released(backends) == ["a"]
        assert await backends.breakers.keys() == []
