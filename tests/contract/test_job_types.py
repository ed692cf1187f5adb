"""What a registry of job types must do (`JobTypes`), in memory and on Redis."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from scripts.servers import free_port
from sickbay.adapters.embedded.job_types import EmbeddedJobTypes
from sickbay.adapters.redis.job_types import KEY, RedisJobTypes
from sickbay.domain.errors import Unavailable
from sickbay.domain.job_type import RETENTION_MS, Announced, TypeSchema
from tests.support.clock import ManualClock
from tests.support.redis_servers import fake, own_database

EMAIL = TypeSchema("email", b'{"type":"object","title":"E-Mail \xc3\xa9"}', True, "Send it.", "mail.send")
NEWER = TypeSchema("email", b'{"type":"object","required":["to"]}')
SMS = TypeSchema("sms", b"{}")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["embedded", "fake", pytest.param("real", marks=pytest.mark.servers)])
async def registry(request, clock, patience):
    if request.param == "embedded":
        yield EmbeddedJobTypes(clock)
    elif request.param == "fake":
        async with RedisJobTypes("redis://fake", clock=clock, connect=fake()) as registry:
            yield registry
    else:
        async with own_database() as url, RedisJobTypes(url, clock=clock) as registry:
            yield registry


async def known(registry, seen=None):
    return sorted(await registry.announced(seen or {}), key=lambda one: one.at)


async def test_what_is_announced_is_known_as_it_was_said(registry, clock):
    await registry.announce([EMAIL])
    clock.now += 5
    await registry.announce([SMS, NEWER])
    first, *others = await known(registry)
    assert first == Announced(EMAIL, clock.now - 5)
    assert {(one.schema, one.at) for one in others} == {(SMS, clock.now), (NEWER, clock.now)}


async def test_of_nothing_nothing_is_known(registry):
    await registry.announce([])
    assert await registry.renew([]) == []
    assert await known(registry) == []


async def test_what_was_seen_is_not_read_again(registry):
    await registry.announce([EMAIL, SMS])
    mine = TypeSchema("email", EMAIL.schema_json, True, "Send it.", "mail.send")
    found = await known(registry, {EMAIL.key: mine})
    assert any(one.schema is mine for one in found)
    assert {one.schema for one in found} == {EMAIL, SMS}


async def test_to_announce_again_makes_it_the_newest(registry, clock):
    await registry.announce([EMAIL])
    clock.now += 1
    await registry.announce([NEWER])
    clock.now += 1
    await registry.announce([EMAIL])
    assert [one.schema for one in await known(registry)] == [NEWER, EMAIL]


async def test_to_renew_keeps_it_but_does_not_make_it_newer(registry, clock):
    await registry.announce([EMAIL])
    began = clock.now
    clock.now += RETENTION_MS - 1
    assert await registry.renew([EMAIL.key]) == []
    clock.now += RETENTION_MS - 1
    assert await known(registry) == [Announced(EMAIL, began)]
    clock.now += 1
    assert await known(registry) == []


async def test_what_is_unknown_is_to_be_announced_again(registry, clock):
    await registry.announce([EMAIL])
    assert await registry.renew([EMAIL.key, SMS.key]) == [SMS.key]
    clock.now += RETENTION_MS
    assert set(await registry.renew([EMAIL.key, SMS.key])) == {EMAIL.key, SMS.key}


async def test_what_is_announced_is_heard_of_in_time(registry):
    """At once or after the wait, which no registry makes longer."""
    await registry.changed(0.001)
    await registry.announce([EMAIL])
    await registry.changed(0.001)
    assert [one.schema for one in await known(registry)] == [EMAIL]


async def test_a_clock_that_was_set_back_keeps_nothing_for_ever(registry, clock):
    await registry.announce([EMAIL])
    clock.now -= RETENTION_MS
    assert await known(registry) == []


@pytest.mark.servers
async def test_redis_uses_its_own_time_and_forgets_what_nobody_renews(patience):
    async with own_database() as url, RedisJobTypes(url) as registry, Redis.from_url(url) as redis:
        await registry.announce([EMAIL])
        (found,) = await registry.announced({})
        seconds, _ = await redis.time()
        assert abs(found.at / 1000 - seconds) < 5
        assert 0 < await redis.pttl(KEY) <= RETENTION_MS


async def test_an_entry_that_cannot_be_read_hides_no_other(caplog, clock):
    connect = fake()
    async with RedisJobTypes("redis://fake", clock=clock, connect=connect) as registry:
        now = clock.now
        await connect("").hset(KEY, mapping={"x": f"{now} {now} {{}}", "a b": f"{now} {now} no JSON", "y": "no time"})
        await registry.announce([EMAIL])
        assert [one.schema for one in await known(registry)] == [EMAIL]
        assert "cannot be read" in caplog.text


async def test_without_redis_job_types_are_unknown_not_none():
    async with RedisJobTypes(f"redis://localhost:{free_port()}") as registry:
        for call in (registry.announced({}), registry.announce([EMAIL]), registry.renew([EMAIL.key])):
            with pytest.raises(Unavailable):
                await call
            assert registry.trouble == "Redis is unavailable"
