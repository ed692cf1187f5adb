"""The policy `rate` as the `Breakers` port has it, in both forms; several processes on one Redis, and what a healthy breaker costs them."""

from __future__ import annotations

from random import Random

import pytest

from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.script import Script
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerState, Command, Permit
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.contract.test_breakers import ADAPTERS, DOWN, KEY, Fleet, Time
from tests.support.redis_servers import eventually, fake, own_database

RATE = BreakerConfig(rate=500, calls=10, slow_ms=5_000)
DATA = Outcome(OutcomeKind.DATA, "VALIDATION_ERROR")

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture(params=ADAPTERS)
async def fleet(request):
    time = Time()
    async with request.param(RATE, lambda: time.now) as breakers:
        yield Fleet(breakers, time)


async def settle(fleet, outcome=SUCCESS, times=1, took_ms=0):
    for number in range(times):
        state = await fleet.breakers.settle(await fleet.permit(f"job-{number}"), outcome, took_ms)
    return state


async def test_half_of_the_runs_open_it_and_less_do_not(fleet):
    await settle(fleet, SUCCESS, 12)
    assert await settle(fleet, DOWN, 11) is BreakerState.CLOSED
    seen = await fleet.look()
    assert (seen.recent_runs, seen.recent_failure_rate, seen.failures_in_row, seen.total_failures) == (23, 11 / 23, 0, 11)
    assert await settle(fleet, DOWN) is BreakerState.OPEN
    seen = await fleet.look()
    assert (seen.reason_code, seen.reason_count, seen.recent_runs, seen.by_rate) == ("API_TIMEOUT", 12, 0, True)


async def test_slow_runs_open_it(fleet):
    assert await settle(fleet, SUCCESS, 9, took_ms=5_000) is BreakerState.CLOSED
    assert await settle(fleet, SUCCESS, 5, took_ms=4_999) is BreakerState.CLOSED
    assert await settle(fleet, SUCCESS, took_ms=7_000) is BreakerState.OPEN
    seen = await fleet.look()
    assert (seen.reason_code, seen.reason_count, seen.reason_message) == ("SLOW_CALLS", 10, "a run took 7000 ms")


async def test_bad_data_is_an_answer(fleet):
    await settle(fleet, DATA, 12)
    await settle(fleet, DOWN, 11)
    assert (await fleet.look()).state is BreakerState.CLOSED
    assert await settle(fleet, DOWN) is BreakerState.OPEN


async def test_when_no_bad_run_is_left_it_is_healthy(fleet):
    await settle(fleet, DOWN, 9)
    assert (await fleet.look()).recent_runs == 9
    fleet.now += 60_000
    seen = await fleet.look()
    assert (seen.recent_runs, seen.recent_failure_rate) == (0, None)
    assert await settle(fleet, DOWN, 9) is BreakerState.CLOSED
    assert await settle(fleet, DOWN) is BreakerState.OPEN


async def test_good_runs_are_reported_once_a_second_while_some_are_bad(fleet):
    await settle(fleet, DOWN)
    await settle(fleet, SUCCESS, 5)
    fleet.now += 1_000
    await settle(fleet, SUCCESS)
    assert (await fleet.look()).recent_runs == 7


async def test_metrics_only_tells_when_it_would_have_opened(fleet):
    await fleet.breakers.command(KEY, Command(Action.METRICS_ONLY))
    await settle(fleet, SUCCESS, 3)
    await settle(fleet, DOWN, 7)
    seen = await fleet.look()
    assert (seen.state, seen.would_have_tripped) == (BreakerState.METRICS_ONLY, 1)


async def test_after_its_probe_it_begins_anew(fleet):
    await settle(fleet, DOWN, 10)
    fleet.now = (await fleet.look()).probe_at or 0
    probe = await fleet.permit("prober")
    assert await fleet.breakers.settle(probe, SUCCESS, 60_000) is BreakerState.CLOSED
    seen = await fleet.look()
    assert (seen.recovering, seen.recent_runs) == (True, 0)


async def test_a_tenant_of_its_own_is_forgotten_when_it_is_healthy(fleet):
    acme = BreakerKey("email", "acme")
    await fleet.breakers.settle(await fleet.permit("job", acme), SUCCESS, 9_000)
    assert (await fleet.look(acme)).recent_runs == 1
    fleet.now += 60_000
    assert [seen for seen in await fleet.breakers.snapshots() if seen.key == acme and seen.recent_runs] == []


@pytest.mark.servers
async def test_the_runs_of_all_processes_count_together():
    time = Time()
    async with own_database() as url:
        workers = [RedisBreakers(url, RATE, clock=lambda: time.now, worker=f"w{number}", rng=Random(number)) for number in range(3)]
        async with workers[0], workers[1], workers[2]:
            for number, worker in enumerate(workers):
                for _ in range(4):
                    await worker.settle(await permit(worker), SUCCESS)
                await worker.settle(await permit(worker), DOWN)
                assert [(seen.recent_runs, seen.state) for seen in await worker.snapshots()] == [(5 * (number + 1), BreakerState.CLOSED)]
            for number in range(9):
                state = await workers[number % 3].settle(await permit(workers[number % 3]), DOWN)
            assert state is BreakerState.OPEN
            for worker in workers:
                await eventually(lambda: worker.view().unless_closed(KEY) is not None)  # noqa: B023 - it is asked in its turn


async def test_a_healthy_breaker_costs_no_call(monkeypatch):
    calls, run, time = [], Script.run, Time()

    async def counted(self, client, key, words):
        calls.append(words[0])
        return await run(self, client, key, words)

    async with RedisBreakers("redis://fake", RATE, clock=lambda: time.now, rng=Random(7), connect=fake()) as breakers:
        held = await permit(breakers)
        monkeypatch.setattr(Script, "run", counted)
        for _ in range(100):
            await breakers.settle(held, SUCCESS)
            await permit(breakers)
        assert calls == []
        await breakers.settle(held, DOWN)
        for _ in range(100):
            await breakers.settle(held, SUCCESS)
        time.now += 1_000
        await breakers.settle(held, SUCCESS)
        await breakers.settle(held, SUCCESS)
        assert calls == ["settle", "settle"]
        [seen] = await breakers.snapshots()
        assert seen.recent_runs == 202


async def test_runs_that_could_not_be_reported_are_not_lost(monkeypatch):
    """Redis is away for the report of one bad run; the good ones before it come with the next."""
    run, time, away = Script.run, Time(), [True]

    async def failing(self, client, key, words):
        if words[0] == "settle" and away.pop():
            raise ConnectionResetError
        away.append(False)
        return await run(self, client, key, words)

    async with RedisBreakers("redis://fake", RATE, clock=lambda: time.now, rng=Random(7), connect=fake()) as breakers:
        held = await permit(breakers)
        for _ in range(30):
            await breakers.settle(held, SUCCESS)
        monkeypatch.setattr(Script, "run", failing)
        assert await breakers.settle(held, DOWN) is BreakerState.CLOSED
        await eventually(lambda: not breakers.is_degraded)
        for _ in range(20):
            assert await breakers.settle(held, DOWN) is BreakerState.CLOSED
        [seen] = await breakers.snapshots()
        assert seen.recent_runs == 50


async def permit(breakers) -> Permit:
    answer = await breakers.admit(KEY, "job")
    assert isinstance(answer, Permit)
    return answer
