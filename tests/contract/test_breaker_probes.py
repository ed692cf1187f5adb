"""Probes that hang, as the `Breakers` port has it, in both forms; several processes on one Redis, and one that loses it."""

from __future__ import annotations

import signal
from random import Random

import pytest

from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.domain.breaker import BreakerConfig, BreakerState, Permit, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.contract.test_breakers import ADAPTERS, CONFIG, DOWN, KEY, START, Fleet, Time
from tests.support.breaker_jobs import run
from tests.support.redis_servers import eventually, fake, own_server

TIMED_OUT = Outcome(OutcomeKind.SYSTEMIC, "HANDLER_TIMEOUT", "took longer than 30 s")
USUAL_MS = 500
PATIENCE_MS = 2_000

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture(params=ADAPTERS)
async def fleet(request):
    time = Time()
    async with request.param(CONFIG, lambda: time.now) as breakers:
        yield Fleet(breakers, time)


async def open_after_success(fleet):
    """The usual duration of a run is known, and the cooldown is over."""
    await fleet.breakers.settle(await fleet.permit(), SUCCESS, USUAL_MS)
    fleet.now = (await fleet.open()).probe_at


async def probe(fleet, job):
    permit = await fleet.breakers.admit(KEY, job, 30_000)
    assert isinstance(permit, Permit)
    assert permit.kind is PermitKind.PROBE
    return permit


async def test_another_job_becomes_the_probe_when_one_takes_too_long(fleet):
    await open_after_success(fleet)
    first = await probe(fleet, "first")
    assert (await fleet.look()).probe_at == fleet.now + PATIENCE_MS
    fleet.now += PATIENCE_MS - 1
    assert await fleet.breakers.admit(KEY, "early") == Refusal(KEY, BreakerState.HALF_OPEN)
    fleet.now += 1
    seen = await fleet.look()
    assert (seen.state, seen.cooldown_elapsed, seen.hanging_probes) == (BreakerState.OPEN, True, 1)
    second = await probe(fleet, "second")
    assert await fleet.breakers.admit(KEY, "third") == Refusal(KEY, BreakerState.HALF_OPEN)
    assert await fleet.breakers.renew(first)
    assert await fleet.breakers.settle(second, SUCCESS, 500) is BreakerState.CLOSED
    before = await fleet.look()
    assert await fleet.breakers.settle(first, TIMED_OUT, 30_000) is BreakerState.CLOSED
    after = await fleet.look()
    assert (after.failures_in_row, after.epoch, after.rev) == (0, before.epoch, before.rev)
    assert fleet.breakers.stale == 1


async def test_a_late_success_closes(fleet):
    await open_after_success(fleet)
    first = await probe(fleet, "first")
    fleet.now += PATIENCE_MS
    second = await probe(fleet, "second")
    assert await fleet.breakers.settle(first, SUCCESS, 2_500) is BreakerState.CLOSED
    assert (await fleet.look()).recovering
    assert await fleet.breakers.settle(second, DOWN) is BreakerState.CLOSED


async def test_a_job_whose_probe_fails_late_is_parked_while_it_is_open(fleet):
    await open_after_success(fleet)
    first = await probe(fleet, "first")
    fleet.now += PATIENCE_MS
    await probe(fleet, "second")
    before = await fleet.look()
    assert await fleet.breakers.settle(first, TIMED_OUT, 30_000) is BreakerState.HALF_OPEN
    after = await fleet.look()
    assert (after.trips, after.reason_count, after.probe_at) == (before.trips, before.reason_count, before.probe_at)
    assert (before.hanging_probes, after.hanging_probes) == (1, 0)


async def test_nothing_known_is_a_patience_of_fifteen_seconds(fleet):
    fleet.now = (await fleet.open()).probe_at
    permit = await probe(fleet, "first")
    fleet.now += 14_000
    assert await fleet.breakers.renew(permit)
    fleet.now += 999
    assert isinstance(await fleet.breakers.admit(KEY, "early"), Refusal)
    fleet.now += 1
    await probe(fleet, "second")


async def test_processes_share_what_hangs_and_never_more_than_four_run():
    """Each process knows the usual duration from its own runs; a probe of one makes room for that of another."""
    time = Time()
    redis = fake()
    async with (
        RedisBreakers("redis://fake", CONFIG, clock=lambda: time.now, rng=Random(1), connect=redis) as one,
        RedisBreakers("redis://fake", CONFIG, clock=lambda: time.now, rng=Random(2), connect=redis) as other,
    ):
        fleet = Fleet(one, time)
        await open_after_success(fleet)
        await other.settle(Permit(KEY, PermitKind.NORMAL, 0, "of before"), SUCCESS, 100)
        permits = []
        for number in range(4):
            breakers = (one, other)[number % 2]
            permit = await breakers.admit(KEY, f"job-{number}", 30_000)
            permits.append((breakers, permit))
            [shown] = await one.snapshots()
            time.now = shown.probe_at if number < 3 else time.now
        for now in (time.now, shown.probe_at):
            time.now = now
            assert [await breakers.renew(permit) for breakers, permit in permits] == [True] * 4
        for breakers in (one, other):
            assert await breakers.admit(KEY, "fifth") == Refusal(KEY, BreakerState.HALF_OPEN)
        assert [seen.hanging_probes for seen in await other.snapshots()] == [3]
        breakers, permit = permits[1]
        await breakers.settle(permit, TIMED_OUT)
        assert (await one.admit(KEY, "fifth")).kind is PermitKind.PROBE


@pytest.mark.servers
async def test_two_probes_of_one_process_keep_their_leases_and_outcomes_while_redis_is_away():
    time = Time(START)
    config = BreakerConfig()
    async with own_server() as server, RedisBreakers(server.url, config, clock=lambda: time.now, rng=Random(1)) as breakers:
        await breakers.settle(await breakers.admit(KEY, "fine"), SUCCESS, USUAL_MS)
        await run(breakers, DOWN, 5)
        time.now += 60_000
        first = await breakers.admit(KEY, "first", 30_000)
        time.now += PATIENCE_MS
        second = await breakers.admit(KEY, "second", 30_000)
        server.signal(signal.SIGSTOP)
        assert await breakers.renew(first)
        assert await breakers.renew(second)
        assert await breakers.settle(first, SUCCESS) is BreakerState.HALF_OPEN
        assert await breakers.settle(second, TIMED_OUT) is BreakerState.HALF_OPEN
        server.signal(signal.SIGCONT)
        await eventually(lambda: not breakers.is_degraded, 15)
        [seen] = await breakers.snapshots()
        assert (seen.state, seen.failures_in_row) == (BreakerState.CLOSED, 0)
