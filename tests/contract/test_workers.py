"""What a registry of workers must do (`WorkerRegistry`), in memory and on Redis."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from scripts.servers import free_port
from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.adapters.redis.workers import KEY, RedisWorkerRegistry
from sickbay.domain.errors import Unavailable
from sickbay.domain.lane import Flow, Lane
from sickbay.domain.workers import HEARTBEAT_MS, TTL_MS, Worker
from tests.support.clock import ManualClock
from tests.support.redis_servers import fake, own_database

EMAIL = Worker(
    "w1",
    "anna",
    ("email", "sms"),
    version="1.2",
    host="a",
    slots=4,
    slots_in_use=1,
    since=5,
    lanes=True,
    tenants=(("acme", 1),),
    schemas=(("email", "0f"),),
)
FAX = Worker("w2", "berta", ("fax",), since=7)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["embedded", "fake", pytest.param("real", marks=pytest.mark.servers)])
async def registry(request, clock, patience):
    if request.param == "embedded":
        yield EmbeddedWorkerRegistry(clock)
    elif request.param == "fake":
        async with RedisWorkerRegistry("redis://fake", clock=clock, connect=fake()) as registry:
            yield registry
    else:
        async with own_database() as url, RedisWorkerRegistry(url, clock=clock) as registry:
            yield registry


async def ids(registry):
    return [worker.worker_id for worker in (await registry.fleet()).workers]


async def test_an_announced_worker_is_live_with_all_it_says(registry, clock):
    await registry.announce(EMAIL)
    fleet = await registry.fleet()
    assert (fleet.now, list(fleet.workers)) == (clock.now, [replace(EMAIL, last_seen=clock.now)])
    assert [fleet.handles(job_type) for job_type in ("email", "sms", "fax")] == [True, True, False]


async def test_the_floods_of_all_workers_are_known(registry):
    """As the flows that a Job API compares them with; a worker of before the lanes has none and takes from the main lane alone."""
    await registry.announce(replace(EMAIL, floods=(Flow(Lane.MAIN, "email", "acme"),)))
    await registry.announce(replace(FAX, lanes=True, floods=(Flow(Lane.HIGH, "fax", "default"), Flow(Lane.MAIN, "email", "acme"))))
    fleet = replace(await registry.fleet(), unannounced=0)
    assert fleet.floods == {Flow(Lane.MAIN, "email", "acme"), Flow(Lane.HIGH, "fax", "default")}
    assert fleet.takes_lanes
    await registry.announce(FAX)
    assert not replace(await registry.fleet(), unannounced=0).takes_lanes


async def test_a_heartbeat_replaces_what_is_known(registry, clock):
    await registry.announce(EMAIL)
    clock.now += HEARTBEAT_MS
    changed = replace(EMAIL, slots_in_use=3)
    await registry.announce(changed)
    assert list((await registry.fleet()).workers) == [replace(changed, last_seen=clock.now)]


async def test_workers_come_in_the_order_of_their_names_and_leave_at_once(registry):
    await registry.announce(FAX)
    await registry.announce(EMAIL)
    assert await ids(registry) == ["w1", "w2"]
    await registry.leave("w1")
    await registry.leave("w1")
    assert await ids(registry) == ["w2"]


async def test_a_worker_that_was_killed_leaves_after_its_time_and_others_stay(registry, clock):
    await registry.announce(EMAIL)
    clock.now += TTL_MS - 1
    await registry.announce(FAX)
    assert await ids(registry) == ["w1", "w2"]
    clock.now += 1
    assert await ids(registry) == ["w2"]
    clock.now -= 1
    assert await ids(registry) == ["w2"]  # forgotten, not hidden


async def test_a_worker_that_comes_back_is_live_again(registry, clock):
    await registry.announce(EMAIL)
    clock.now += TTL_MS
    assert await ids(registry) == []
    await registry.announce(EMAIL)
    assert await ids(registry) == ["w1"]


async def test_a_clock_that_was_set_back_keeps_no_worker_for_ever(registry, clock):
    await registry.announce(EMAIL)
    clock.now -= TTL_MS
    assert await ids(registry) == []


async def test_a_draining_worker_is_listed_but_takes_no_jobs(registry):
    await registry.announce(replace(EMAIL, draining=True))
    await registry.announce(replace(EMAIL, worker_id="w3", job_types=("sms",)))
    fleet = await registry.fleet()
    assert [worker.draining for worker in fleet.workers] == [True, False]
    assert (fleet.takers, fleet.live) == (1, {"sms": 1})


@pytest.mark.servers
async def test_redis_uses_its_own_time_and_forgets_a_fleet_that_is_gone(patience):
    async with own_database() as url, RedisWorkerRegistry(url) as registry, Redis.from_url(url) as redis:
        await registry.announce(EMAIL)
        (worker,) = (await registry.fleet()).workers
        seconds, _ = await redis.time()
        assert abs(worker.last_seen / 1000 - seconds) < 5
        assert 0 < await redis.pttl(KEY) <= TTL_MS


async def test_an_entry_that_cannot_be_read_hides_no_other(caplog, clock):
    connect = fake()
    async with RedisWorkerRegistry("redis://fake", clock=clock, connect=connect) as registry:
        await connect("").hset(KEY, mapping={"x": f"{clock.now} {{}}", "y": "no time"})
        await registry.announce(EMAIL)
        assert await ids(registry) == ["w1"]
        assert "cannot be read" in caplog.text
        assert set(await connect("").hkeys(KEY)) == {b"w1", b"x"}


async def test_without_redis_the_fleet_is_unknown_not_empty():
    async with RedisWorkerRegistry(f"redis://localhost:{free_port()}") as registry:
        for call in (registry.fleet(), registry.announce(EMAIL), registry.leave("w1"), registry.fleet(), registry.announce(EMAIL)):
            with pytest.raises(Unavailable) as caught:
                await call
            assert "paused" not in caught.value.detail
        assert registry.trouble == "Redis is unavailable"
