"""Who only looks at the fleet's breakers sees them change, asks Redis nothing while looking, and writes nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random

import pytest
from redis.asyncio import Redis

from sickbay.adapters.redis.breaker_reader import RedisBreakerReader
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.domain.breaker import Action, BreakerConfig, BreakerState, Command
from sickbay.domain.outcome import Outcome, OutcomeKind
from tests.support.breaker_jobs import KEY
from tests.support.redis_servers import eventually, own_database, own_server

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("patience")]

CONFIG = BreakerConfig(failure_threshold=2, trip_confirm_ms=0)
HOLD = Command(Action.FORCE_OPEN, None, "ada", "maintenance")


@pytest.fixture
async def url():
    async with own_database() as mine:
        yield mine


@asynccontextmanager
async def reader_and_worker(url):
    async with RedisBreakers(url, CONFIG, worker="worker", rng=Random(1)) as worker, RedisBreakerReader(url, lambda _: CONFIG) as reader:
        await eventually(lambda: reader.view().get(KEY) is not None)
        yield reader.view(), worker


async def test_it_sees_what_happens_and_looks_without_a_call(url, monkeypatch):
    async with reader_and_worker(url) as (view, worker):
        assert view.get(KEY).state is BreakerState.CLOSED
        assert view.unless_closed(KEY) is None
        for number in range(2):
            permit = await worker.admit(KEY, f"job-{number}")
            await worker.settle(permit, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer"))
        await eventually(lambda: view.unless_closed(KEY) is not None)
        seen, known = view.unless_closed(KEY), {one.key: one for one in await worker.snapshots()}[KEY]
        assert (seen.state, seen.opened_at, seen.probe_at, seen.reason_code, seen.degraded) == (
            BreakerState.OPEN,
            known.opened_at,
            known.probe_at,
            "API_TIMEOUT",
            False,
        )
        await worker.command(KEY, Command(Action.RESET))
        await eventually(lambda: view.unless_closed(KEY) is None)


async def test_what_was_there_before_is_known_from_the_start(url):
    async with RedisBreakers(url, CONFIG, worker="worker", rng=Random(1)) as worker:
        await worker.command(KEY, HOLD)
    async with RedisBreakerReader(url, lambda _: CONFIG) as reader:
        await eventually(lambda: reader.view().unless_closed(KEY) is not None)
        assert reader.view().get(KEY).forced_why == "maintenance"


async def test_lost_notices_are_made_up_for_by_looking(url):
    """FLUSHALL gives no notice: what is looked at is compared."""
    async with reader_and_worker(url) as (view, worker), Redis.from_url(url) as redis:
        await worker.command(KEY, HOLD)
        await eventually(lambda: view.unless_closed(KEY) is not None)
        await redis.flushdb()
        await eventually(lambda: view.unless_closed(KEY) is None)


async def test_it_writes_nothing():
    """A user that may only read is enough."""
    async with own_server() as server, Redis.from_url(server.url) as redis, RedisBreakers(server.url, CONFIG, rng=Random(1)) as worker:
        await redis.execute_command("ACL", "SETUSER", "looker", "on", ">secret", "~*", "&*", "+@read", "+@connection", "+@pubsub", "+time")
        async with RedisBreakerReader(server.url.replace("//", "//looker:secret@"), lambda _: CONFIG) as reader:
            await worker.command(KEY, HOLD)
            await eventually(lambda: reader.view().unless_closed(KEY) is not None)
            assert not reader.view().get(KEY).degraded


async def test_without_redis_the_last_state_counts():
    """It is marked as such; and nothing is known if Redis never answered."""
    async with own_server() as server, reader_and_worker(server.url) as (view, worker):
        await worker.command(KEY, HOLD)
        await eventually(lambda: view.unless_closed(KEY) is not None)
        await server.kill()
        await eventually(lambda: view.get(KEY).degraded)
        assert view.unless_closed(KEY).state is BreakerState.FORCED_OPEN


async def test_a_redis_that_never_answered():
    async with RedisBreakerReader("redis://127.0.0.1:1", lambda _: CONFIG) as reader:
        assert reader.view().get(KEY) is None
        assert reader.view().unless_closed(KEY) is None
