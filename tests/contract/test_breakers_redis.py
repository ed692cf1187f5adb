"""What the fleet's circuits promise beyond the port: several processes, documented keys, a healthy path without calls, lost notices."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from sickbay.adapters.redis.breaker_sync import CHANNEL
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.breaker import machine as breaker
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerState, Command, Permit, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_jobs import KEY, run
from tests.support.differential import Twin
from tests.support.redis_servers import eventually, own_database, own_server
from tests.unit.breaker.test_lua import LAWS, hold_laws
from tests.unit.breaker.test_rate_laws import RateLaws

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("patience")]

DOWN = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer")
CONFIG = BreakerConfig(cooldown_ms=200, probe_lease_ms=300)
HOUR_MS = 3_600_000
WEEK_MS = 604_800_000


@pytest.fixture
async def url():
    async with own_database() as mine:
        yield mine


@pytest.fixture
async def redis(url):
    async with Redis.from_url(url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def fleet(url, size, config=CONFIG):
    """Several processes' worth of breakers on one Redis, which has its own time."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(RedisBreakers(url, config, worker=f"worker-{number}", rng=Random(number)))
            for number in range(size)
        ]


async def look(breakers, key=KEY):
    return {one.key: one for one in await breakers.snapshots()}[key]


def view(breakers, key=KEY):
    return breakers._sync.view.get(key)


async def due(breakers, key=KEY):
    """Wait until the cooldown is over."""
    seen = await look(breakers, key)
    await eventually(lambda: breakers._sync.time.now() > seen.probe_at)


@pytest.mark.long
@pytest.mark.no_cover  # many examples; shorter tests cover the same
def test_the_script_and_the_machine_agree_on_a_real_redis(monkeypatch):
    """Event by event, byte for byte; `tests/unit/breaker/test_lua.py` does the same without a server."""

    async def compare():
        async with own_database() as mine:
            with BlockingRedis.from_url(mine) as client:
                twin = Twin(client)
                hold_laws(
                    monkeypatch, twin, settings(LAWS, max_examples=40, stateful_step_count=30, suppress_health_check=list(HealthCheck))
                )
                assert twin.compared > 2_000
                hold_laws(monkeypatch, twin, laws=RateLaws)

    asyncio.run(compare())


async def test_failures_are_counted_across_the_fleet(url):
    async with fleet(url, 3) as workers:
        for number in range(5):
            worker = workers[number % 3]
            assert (
                await worker.settle(await worker.admit(KEY, f"job-{number}"), DOWN) is [BreakerState.CLOSED, BreakerState.OPEN][number // 4]
            )
        seen = await look(workers[1])
        assert (seen.state, seen.reason_count, seen.total_failures) == (BreakerState.OPEN, 5, 5)
        await eventually(lambda: all(view(worker).state is BreakerState.OPEN for worker in workers))


async def test_of_forty_processes_exactly_one_probes_and_if_it_vanishes_one_other(url):
    async with fleet(url, 40, replace(CONFIG, probe_lease_ms=2_000)) as workers:
        await run(workers[0], DOWN, 5)
        for number_of_probers in range(2):
            await due(workers[0])
            answers = await asyncio.gather(*(worker.admit(KEY, f"job-{number}") for number, worker in enumerate(workers)))
            [prober] = [answer for answer in answers if isinstance(answer, Permit)]
            assert prober.kind is PermitKind.PROBE
            seen = await look(workers[0])
            assert (seen.state, seen.probe_job_id) == (BreakerState.HALF_OPEN, prober.job_id), number_of_probers
            await eventually(lambda: workers[0]._sync.time.now() >= view(workers[0]).probe_until)
        late = workers[1].stale
        assert await workers[1].settle(prober, SUCCESS) is not BreakerState.CLOSED
        assert workers[1].stale == late + 1


async def test_the_documented_keys_say_what_they_say(url, redis):
    async with fleet(url, 1) as [worker], redis.pubsub() as events:
        await events.subscribe(worker._sync._channel)
        await events.get_message(timeout=5)
        await run(worker, DOWN, 4)
        assert await redis.get("failure:email:API_TIMEOUT") == "4"
        assert 0 < await redis.pttl("failure:email:API_TIMEOUT") <= CONFIG.failure_window_ms
        assert WEEK_MS - 60_000 < await redis.pttl("breaker:email") <= WEEK_MS
        await run(worker, Outcome(OutcomeKind.DATA, "VALIDATION_ERROR"), key=BreakerKey("email", "well"))
        await run(worker, DOWN, key=BreakerKey("email", "acme"))
        await run(worker, DOWN)
        assert sorted(await redis.keys("breaker:*")) == ["breaker:acme/email", "breaker:email"]
        assert sorted(await redis.keys("failure:*")) == ["failure:acme/email:API_TIMEOUT", "failure:email:API_TIMEOUT"]
        assert 0 < await redis.pttl("breaker:acme/email") <= CONFIG.failure_window_ms
        assert await redis.hgetall("breakers") == {"email": "5", "acme/email": "1"}
        assert await redis.get("breaker:email") == breaker.to_json(view(worker))
        assert (await redis.get("failure:email:API_TIMEOUT"), await redis.pttl("breaker:email")) == ("5", -1)
        told = [(await events.get_message(timeout=5))["data"] for _ in range(6)]
        assert told[0].startswith('{"failures":0,"epoch":')
        assert told[4].startswith('{"failures":4,"epoch":')
        await worker.command(KEY, Command(Action.RESET))
        assert await redis.keys("failure:*") == ["failure:acme/email:API_TIMEOUT"]
        assert 0 < await redis.pttl("breaker:email") <= HOUR_MS
        await worker.command(BreakerKey("email", "acme"), Command(Action.RESET))
        assert (await redis.keys("failure:*"), await redis.keys("breaker:*")) == ([], ["breaker:email"])
        await redis.delete("breaker:email")
        assert await worker.snapshots() == []
        assert await redis.hgetall("breakers") == {}


async def test_a_success_anywhere_ends_the_run_everywhere(url, redis):
    async with fleet(url, 2) as [one, other]:
        await run(other, SUCCESS)
        await run(one, DOWN, 4)
        await eventually(lambda: view(other).seq == 4)
        await run(other, SUCCESS, 50)
        await eventually(lambda: view(one).run == view(other).run == ())
        assert await redis.keys("failure:*") == []
        await run(one, DOWN, 4)
        assert (await look(other)).state is BreakerState.CLOSED


async def test_what_a_late_success_did_not_know_stays(url):
    async with fleet(url, 2) as [one, other]:
        await run(other, SUCCESS)
        await run(one, DOWN, 2)
        await eventually(lambda: view(other).seq == 2)
        other._successes._delay_s = lambda: 60.0
        await run(other, SUCCESS)
        await run(one, DOWN, 2)
        await other._successes.flush(KEY)
        assert [failed.seq for failed in view(other).run] == [3, 4]


async def test_a_healthy_circuit_asks_redis_nothing():
    async with own_server() as server, fleet(server.url, 2) as [worker, other], Redis.from_url(server.url) as redis:
        await run(worker, SUCCESS)
        await run(other, SUCCESS)
        await redis.config_resetstat()
        await run(worker, SUCCESS, 2_000)
        calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in (await redis.info("commandstats")).items()}
        calls = {name: number for name, number in calls.items() if name not in {"config|resetstat", "info"}}
        assert set(calls) <= {"mget"}, calls  # the comparison of the types in use, once a second
        assert calls.get("mget", 0) <= 4
        await worker.settle(await worker.admit(KEY, "job"), DOWN)
        assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == 1


async def test_an_idle_process_does_not_poll():
    async with own_server() as server, fleet(server.url, 1) as [worker], Redis.from_url(server.url) as redis:
        await run(worker, SUCCESS)
        await eventually(lambda: not worker._sync._sync_wanted.is_set())
        await redis.config_resetstat()
        await asyncio.wait([worker._sync._task, worker._sync._feed._task], timeout=1.5)  # nothing is due in here
        assert set(await redis.info("commandstats")) <= {"cmdstat_info", "cmdstat_config|resetstat"}


async def test_lost_notices_are_made_good_within_a_second_of_use(url):
    async with fleet(url, 2, BreakerConfig()) as [deaf, other]:
        await run(deaf, SUCCESS)
        await deaf._sync._feed.stop()
        await run(other, DOWN, 5)
        assert view(deaf).state is BreakerState.CLOSED
        assert isinstance(await deaf.admit(KEY, "a few extra runs"), Permit)
        await eventually(lambda: view(deaf).state is BreakerState.OPEN, 3)
        assert isinstance(await deaf.admit(KEY, "job"), Refusal)


async def test_a_broken_subscription_is_renewed_and_everything_read_anew():
    async with own_server() as server, fleet(server.url, 2) as [deaf, other], Redis.from_url(server.url) as redis:
        await run(deaf, SUCCESS)
        await eventually(lambda: not deaf._sync._sync_wanted.is_set())
        await redis.client_kill_filter(_type="pubsub")
        await run(other, DOWN, 5)
        await run(other, SUCCESS, key=BreakerKey("sms"))
        await eventually(lambda: view(deaf).state is BreakerState.OPEN and view(deaf, BreakerKey("sms")) is not None)


async def test_after_a_flush_versions_still_grow_and_old_permits_are_stale(url, redis):
    async with fleet(url, 2) as [one, other]:
        await run(other, SUCCESS)
        held = await other.admit(KEY, "held")
        await run(one, DOWN, 5)
        await eventually(lambda: view(other).state is BreakerState.OPEN)
        before = view(other)
        await redis.flushdb()
        for worker in (one, other):
            await worker._sync.read_all()
            assert view(worker) is None
        # A new document begins at the time, and one that was written several times in a millisecond is ahead of that by as many.
        while (await redis.time())[0] * 1_000 <= max(before.epoch, before.rev):
            await asyncio.sleep(0.01)
        await run(one, SUCCESS)
        await eventually(lambda: view(other) is not None)
        assert view(other).state is BreakerState.CLOSED
        assert view(other).epoch > before.epoch
        assert view(other).rev > before.rev
        for _ in range(6):
            await other.settle(held, DOWN)
        assert (other.stale, view(other).run) == (6, ())


async def test_a_forged_or_late_verdict_changes_nothing(url, redis):
    async with fleet(url, 2) as [one, other]:
        await run(one, DOWN, 5)
        await due(one)
        prober = await one.admit(KEY, "prober")
        before = await redis.get("breaker:email")
        for forged in (replace(prober, token="guessed"), replace(prober, epoch=prober.epoch - 1)):
            await other.settle(forged, SUCCESS)
        assert await redis.get("breaker:email") == before
        assert await one.settle(prober, SUCCESS) is BreakerState.CLOSED
        after = await redis.get("breaker:email")
        await one.settle(prober, DOWN)
        assert await redis.get("breaker:email") == after


async def test_somebody_watching_hears_the_whole_fleet(url):
    async with fleet(url, 2) as [one, control], control.watch() as changes:
        await run(one, DOWN, 5)
        async with asyncio.timeout(5):
            while (change := await anext(changes)).state is not BreakerState.OPEN:
                assert change.key == KEY
        assert (change.total_failures, change.reason_code) == (5, "API_TIMEOUT")
        await one.command(KEY, Command(Action.FORCE_OPEN, by="ada"))
        async with asyncio.timeout(5):
            assert (await anext(changes)).forced_by == "ada"


async def test_two_databases_of_one_server_do_not_hear_each_other(url):
    async with own_database() as second, fleet(url, 1) as [here], fleet(second, 1) as [there], fleet(second, 1) as [beside]:
        assert here._sync._channel.startswith(CHANNEL)
        await run(there, SUCCESS)
        await eventually(lambda: view(beside) is not None)
        assert view(here) is None
