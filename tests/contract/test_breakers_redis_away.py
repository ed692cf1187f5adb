"""Redis away: nothing opens, nothing closes, no job is broken off, and when it is back its word counts (laws 20 to 22)."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from functools import partial
from random import Random
from time import monotonic

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Broken

from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.local import LocalPermit
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerState, Command, Permit, PermitKind, Refusal
from sickbay.domain.errors import Unavailable
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_jobs import KEY, run
from tests.support.redis_servers import OwnServer, eventually, fake, own_server

SMS = BreakerKey("sms")
DOWN = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT")
START = 1_700_000_000_000


class Time:
    now = START


@pytest.fixture
def time():
    return Time()


def breakers_on(url, time, **more):
    return RedisBreakers(url, BreakerConfig(), clock=lambda: time.now, rng=Random(1), **more)


@pytest.mark.servers
async def test_redis_killed_and_started_again(time, caplog):
    """Open circuits stay open and unprobed, closed ones are guarded here, a probe's verdict waits; then the fleet's view wins."""
    async with own_server() as server, breakers_on(server.url, time) as breakers:
        await run(breakers, SUCCESS)
        await run(breakers, DOWN, 5, SMS)
        held = await breakers.admit(KEY, "held")
        await server.kill()
        time.now += 1_000_000
        assert await breakers.admit(SMS, "job") == Refusal(SMS, BreakerState.OPEN)
        assert isinstance(await breakers.admit(KEY, "job"), LocalPermit)
        assert await breakers.settle(held, DOWN) is BreakerState.CLOSED
        for number in range(4):
            await breakers.settle(await breakers.admit(KEY, f"job-{number}"), DOWN)
        assert isinstance(await breakers.admit(KEY, "job"), Refusal)
        seen = {one.key: one for one in await breakers.snapshots()}
        assert {(one.state, one.degraded) for one in seen.values()} == {(BreakerState.OPEN, True)}
        with pytest.raises(Unavailable):
            await breakers.command(SMS, Command(Action.RESET))
        await server.start()
        await eventually(lambda: not breakers.is_degraded, 15)
        assert list(await breakers.snapshots()) == []
        assert type(await breakers.admit(KEY, "job")) is Permit
        assert [record.levelname for record in caplog.records if "degraded" in record.message] == ["WARNING"]


async def out_of_memory(redis):
    await redis.config_set("maxmemory", 1)
    return partial(redis.config_set, "maxmemory", 0)


async def replica(redis):
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    return partial(redis.execute_command, "REPLICAOF", "NO", "ONE")


async def cannot_save(redis):
    """A replica too few is refused by the same way as a disk that is full (MISCONF), and can be had without one."""
    await redis.config_set("min-replicas-to-write", 1)
    return partial(redis.config_set, "min-replicas-to-write", 0)


async def may_not(redis):
    await redis.execute_command("ACL", "SETUSER", "default", "-set", "-setrange")
    return partial(redis.execute_command, "ACL", "SETUSER", "default", "+@all")


async def may_not_publish(redis):
    """What is tried when nothing is to be written is allowed; the pauses grow even so."""
    await redis.execute_command("ACL", "SETUSER", "default", "-publish")
    return partial(redis.execute_command, "ACL", "SETUSER", "default", "+@all")


REFUSALS = [out_of_memory, replica, cannot_save, may_not, may_not_publish]


@pytest.mark.servers
@pytest.mark.parametrize("refuse", REFUSALS)
async def test_a_redis_that_takes_no_writes_is_away(time, caplog, refuse):
    """It answers questions, so the view stays true; what is closed runs under a breaker of this process, what is open is not probed."""
    async with own_server() as server, breakers_on(server.url, time) as breakers, Redis.from_url(server.url) as redis:
        await run(breakers, SUCCESS)
        await run(breakers, DOWN, 5, SMS)
        allow = await refuse(redis)
        try:
            time.now += 60_000
            for number in range(5):
                await breakers.settle(await breakers.admit(KEY, f"job-{number}"), DOWN)
            assert breakers.is_degraded
            assert await breakers.admit(SMS, "job") == Refusal(SMS, BreakerState.OPEN)
            assert isinstance(await breakers.admit(KEY, "job"), Refusal)
            assert breakers.shut_here == {KEY}
            assert [one.degraded for one in await breakers.snapshots()] == [True, True]
            with pytest.raises(Unavailable):
                await breakers.command(SMS, Command(Action.RESET))
        finally:
            await allow()
        await eventually(lambda: not breakers.is_degraded, 15)
        assert breakers.shut_here == frozenset()
        assert [(one.key, one.state, one.degraded) for one in await breakers.snapshots()] == [
            (KEY, BreakerState.CLOSED, False),
            (SMS, BreakerState.OPEN, False),
        ]
        told = [record.message for record in caplog.records if "are degraded" in record.message]
        assert len(told) <= 2
        assert "rejects commands" in told[0]
        assert any("OPEN in this process alone" in record.message for record in caplog.records)


@pytest.mark.servers
@pytest.mark.parametrize("refuse", REFUSALS[:-1])
async def test_whoever_only_watches_notices_that_writes_are_refused(time, monkeypatch, refuse):
    """The control plane: healing stands still, as without Redis, instead of releasing jobs that every worker parks again."""
    monkeypatch.setattr("sickbay.adapters.redis.write_check.TRY_S", 0.05)
    async with own_server() as server, breakers_on(server.url, time) as breakers, Redis.from_url(server.url) as redis:
        await run(breakers, SUCCESS)
        async with breakers.watch():
            await eventually(lambda: not breakers.is_degraded)
            allow = await refuse(redis)
            await eventually(lambda: breakers.is_degraded)
            assert [one.degraded for one in await breakers.snapshots()] == [True]
            await allow()
            await eventually(lambda: not breakers.is_degraded, 15)
            assert [one.degraded for one in await breakers.snapshots()] == [False]


@pytest.mark.servers
@pytest.mark.parametrize("refuse", REFUSALS[:-1])
async def test_whoever_does_nothing_notices_that_writes_are_refused(time, monkeypatch, refuse):
    """A worker without jobs, and one whose jobs are all well; what is tried stays nowhere."""
    monkeypatch.setattr("sickbay.adapters.redis.write_check.TRY_S", 0.05)
    async with own_server() as server, breakers_on(server.url, time) as breakers, Redis.from_url(server.url) as redis:
        await eventually(lambda: not breakers.is_degraded)
        allow = await refuse(redis)
        await eventually(lambda: breakers.trouble == "Redis rejects writes")
        assert isinstance(await breakers.admit(KEY, "job"), LocalPermit)
        await allow()
        await eventually(lambda: not breakers.is_degraded, 15)
        assert not breakers.trouble
        assert await redis.keys() == []
        await server.kill()
        await eventually(lambda: breakers.trouble == "Redis is unavailable")


@pytest.mark.servers
async def test_a_key_of_another_kind_makes_one_circuit_degraded_and_no_other(time, caplog):
    """Somebody's HSET in place of a circuit."""
    async with own_server() as server, breakers_on(server.url, time) as breakers, Redis.from_url(server.url) as redis:
        await redis.hset("breaker:email", "a", "b")
        for number in range(5):
            await breakers.settle(await breakers.admit(KEY, f"job-{number}"), DOWN)
        assert isinstance(await breakers.admit(KEY, "job"), Refusal)
        assert not breakers.is_degraded
        await run(breakers, DOWN, 5, SMS)
        assert [(one.key, one.state, one.degraded) for one in await breakers.snapshots()] == [(SMS, BreakerState.OPEN, False)]
        assert len([record for record in caplog.records if "an invalid breaker key" in record.message]) == 1


@pytest.mark.servers
async def test_without_redis_no_circuit_is_not_said_to_be_the_truth(time):
    """An empty answer cannot be marked as degraded; whoever releases parked jobs would take it for all closed."""
    async with own_server() as server, breakers_on(server.url, time) as breakers:
        assert list(await breakers.snapshots()) == []
        await server.kill()
        with pytest.raises(Unavailable):
            await breakers.snapshots()


@pytest.mark.servers
async def test_a_frozen_redis_costs_little_time_and_its_view_is_back_in_force(time):
    async with own_server() as server, breakers_on(server.url, time) as breakers:
        await run(breakers, DOWN, 5, SMS)
        time.now += 60_000
        prober = await breakers.admit(SMS, "prober")
        await run(breakers, SUCCESS)
        server.signal(signal.SIGSTOP)
        begun = monotonic()
        await breakers.settle(await breakers.admit(KEY, "job"), DOWN)
        assert monotonic() - begun < 1.5
        assert breakers.is_degraded
        assert await breakers.renew(prober)
        assert await breakers.settle(prober, SUCCESS) is BreakerState.HALF_OPEN
        begun = monotonic()
        await asyncio.gather(*(breakers.admit(KEY, f"job-{number}") for number in range(200)))
        assert monotonic() - begun < 1.5
        server.signal(signal.SIGCONT)
        await eventually(lambda: not breakers.is_degraded, 15)
        [sms] = [one for one in await breakers.snapshots() if one.key == SMS]
        assert (sms.state, sms.recovering, sms.degraded) == (BreakerState.CLOSED, True, False)


@pytest.mark.servers
async def test_a_worker_starts_without_redis_and_joins_the_fleet_later(time):
    server = OwnServer()
    async with breakers_on(server.url, time) as breakers:
        assert breakers.is_degraded
        with pytest.raises(Unavailable):
            await breakers.snapshots()
        await run(breakers, DOWN, 5)
        assert (await breakers.admit(KEY, "job")).state is BreakerState.OPEN
        assert [one.degraded for one in await breakers.snapshots()] == [True]
        time.now += 60_000
        probe = await breakers.admit(KEY, "job")
        assert (type(probe), probe.kind) == (LocalPermit, PermitKind.PROBE)
        assert await breakers.renew(probe)
        try:
            await server.start()
            await eventually(lambda: not breakers.is_degraded, 15)
            assert await breakers.settle(probe, DOWN) is BreakerState.CLOSED
            await run(breakers, DOWN, 5)
            assert [(one.state, one.degraded) for one in await breakers.snapshots()] == [(BreakerState.OPEN, False)]
        finally:
            await server.kill()


@pytest.mark.servers
async def test_a_wrong_password_is_an_outage_and_stays_secret(time, caplog):
    caplog.set_level(logging.DEBUG)
    async with own_server("right-secret") as server:
        async with breakers_on(server.url.replace("right", "wrong"), time) as breakers:
            assert breakers.is_degraded
            with pytest.raises(Unavailable) as caught:
                await breakers.command(KEY, Command(Action.DISABLE))
        async with breakers_on(server.url, time) as breakers:
            assert not breakers.is_degraded
    assert "secret" not in caplog.text + str(caught.value)
    assert "127.0.0.1" in caplog.text


class Flaky(FakeAsyncRedis):
    """A fake whose every command may fail, before or after Redis has carried it out."""

    fails = staticmethod(lambda: "")

    async def execute_command(self, *words, **options):
        how = self.fails()
        if how == "before":
            raise Broken("reset")
        answer = await super().execute_command(*words, **options)
        if how == "after":
            raise Broken("reset")
        return answer


@pytest.mark.parametrize("seed", range(12))
async def test_a_store_that_fails_at_any_point_never_breaks_the_job_path(seed, time):
    """Law 21. No probe without Redis, and no circuit that was open is closed but by a probe's success."""
    rng, server = Random(seed), FakeServer()
    Flaky.fails = staticmethod(lambda: "")
    async with breakers_on("redis://fake", time, connect=lambda _url: Flaky(server=server)) as breakers:
        await breakers.admit(KEY, "first")
        Flaky.fails = staticmethod(lambda: rng.choice(["", "", "before", "after"]))
        held, succeeded = [], False
        for step in range(300):
            breakers._sync._store.reset()
            before = breakers._sync.view.get(KEY)
            answer = await breakers.admit(KEY, f"job-{step}")
            if isinstance(answer, Permit):
                held.append(answer)
                if answer.kind is PermitKind.PROBE and not isinstance(answer, LocalPermit):
                    assert breakers._sync.view.get(KEY).probe_token == answer.token
            elif before is not None and before.state.refuses:
                assert answer.state.refuses
            for permit in [one for one in held if rng.random() < 0.7]:
                held.remove(permit)
                outcome = rng.choice([DOWN, DOWN, DOWN, SUCCESS])
                succeeded = succeeded or (outcome is SUCCESS and bool(permit.token))
                await breakers.renew(permit)
                assert await breakers.settle(permit, outcome) in BreakerState
            with suppress(Unavailable):
                await breakers.snapshots()
            after = breakers._sync.view.get(KEY)
            assert after.state is not BreakerState.CLOSED or before is None or before.state is BreakerState.CLOSED or succeeded
            time.now += rng.choice([1, 1_000, 70_000])
        Flaky.fails = staticmethod(lambda: "")
        breakers._sync._store.reset()
        await breakers.snapshots()
        assert not breakers.is_degraded


async def test_a_prober_cancelled_while_it_asks_is_replaced_after_the_lease(time):
    """Law 22: Redis has lent the probe, and nobody is there to hear it."""
    async with breakers_on("redis://fake", time, connect=fake()) as breakers:
        await run(breakers, DOWN, 5)
        time.now += 60_000
        for _ in range(2):
            asking = asyncio.create_task(breakers.admit(KEY, "cancelled"))
            for _ in range(3):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        time.now += 15_000
        assert (await breakers.admit(KEY, "heir")).kind is PermitKind.PROBE
