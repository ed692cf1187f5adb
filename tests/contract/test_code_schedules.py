"""What a registry of the schedules in workers' code must do (`CodeSchedules`), in memory and on Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from scripts.servers import free_port
from sickbay.adapters.embedded.code_schedules import EmbeddedCodeSchedules
from sickbay.adapters.redis.code_schedules import KEY, RedisCodeSchedules
from sickbay.domain.code_schedule import RETENTION_MS, CodeSchedule, CodeScheduleSet, set_of
from sickbay.domain.errors import Unavailable
from sickbay.domain.priority import Priority
from sickbay.domain.schedule import Overlap, ScheduleKey, ScheduleSpec, Timing, WhileOpen
from tests.support.clock import ManualClock
from tests.support.redis_servers import fake, own_database

EVERYTHING = CodeSchedule(
    ScheduleKey("acme", "nightly"),
    ScheduleSpec(
        "report",
        Timing("0 3 * * *", 0, "Europe/Berlin", 1_000, 2_000_000_000_000, 60_000),
        b'{"of":"\xc3\xa9"}',
        Priority.HIGH,
        Overlap.BUFFER_ONE,
        WhileOpen.SKIP,
        0,
        True,
        "Every night.",
    ),
    "reports.make",
)
POLL = CodeSchedule(ScheduleKey("default", "poll"), ScheduleSpec("poll", Timing(every_ms=5_000)))
BOTH, NIGHTLY = set_of([POLL, EVERYTHING]), set_of([EVERYTHING])


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["embedded", "fake", pytest.param("real", marks=pytest.mark.servers)])
async def registry(request, clock, patience):
    if request.param == "embedded":
        yield EmbeddedCodeSchedules(clock)
    elif request.param == "fake":
        async with RedisCodeSchedules("redis://fake", clock=clock, connect=fake()) as registry:
            yield registry
    else:
        async with own_database() as url, RedisCodeSchedules(url, clock=clock) as registry:
            yield registry


async def test_what_is_announced_is_known_as_it_was_said(registry):
    await registry.announce([BOTH])
    await registry.announce([NIGHTLY])
    assert await registry.announced({}) == {BOTH.digest: BOTH, NIGHTLY.digest: NIGHTLY}


async def test_of_nothing_nothing_is_known(registry):
    await registry.announce([])
    assert await registry.renew([]) == []
    assert await registry.announced({}) == {}


async def test_what_was_seen_is_not_read_again(registry):
    await registry.announce([BOTH])
    mine = CodeScheduleSet(BOTH.schedules)
    assert (await registry.announced({BOTH.digest: mine}))[BOTH.digest] is mine


async def test_to_renew_keeps_it_and_tells_what_is_unknown(registry, clock):
    await registry.announce([BOTH])
    clock.now += RETENTION_MS - 1
    assert await registry.renew([BOTH.digest, NIGHTLY.digest]) == [NIGHTLY.digest]
    clock.now += RETENTION_MS - 1
    assert [*await registry.announced({})] == [BOTH.digest]
    clock.now += 1
    assert await registry.announced({}) == {}
    assert await registry.renew([BOTH.digest]) == [BOTH.digest]


async def test_what_is_announced_is_heard_of_in_time(registry):
    """At once or after the wait, which no registry makes longer."""
    await registry.changed(0.001)
    await registry.announce([BOTH])
    await registry.changed(0.001)
    assert [*await registry.announced({})] == [BOTH.digest]


async def test_a_clock_that_was_set_back_keeps_nothing_for_ever(registry, clock):
    await registry.announce([BOTH])
    clock.now -= RETENTION_MS
    assert await registry.announced({}) == {}


async def test_what_another_version_wrote_in_another_form_hides_nothing_else(caplog, clock):
    """Such a set is known not to be whole, so nobody concludes from it what workers do not announce."""
    connect = fake()
    async with RedisCodeSchedules("redis://fake", clock=clock, connect=connect) as registry:
        await registry.announce([BOTH])
        stored = (await connect("").hget(KEY, BOTH.digest)).decode()
        head, text = stored[: stored.index("[")], stored[stored.index("[") :]
        odd = text.replace('"SKIP","while_open":"RUN"', '"WAIT","while_open":"RUN","new_field":1')
        newer = text.replace('"poll"]', '"poll"],"new_field":1')
        assert text not in {odd, newer}
        await connect("").hset(KEY, mapping={"odd": head + odd, "newer": head + newer, "none": head + "no JSON", "y": "no time"})
        found = await registry.announced({})
        assert (found["odd"].schedules, found["odd"].is_whole) == ((EVERYTHING,), False)
        assert (found["newer"].schedules, found["newer"].is_whole) == (BOTH.schedules, True)
        assert (found["none"].schedules, found["none"].is_whole) == ((), False)
        assert found[BOTH.digest] == BOTH
        assert "cannot be read" in caplog.text


@pytest.mark.servers
async def test_redis_uses_its_own_time_and_forgets_what_nobody_renews(patience):
    async with own_database() as url, RedisCodeSchedules(url) as registry, Redis.from_url(url) as redis:
        await registry.announce([BOTH])
        assert await registry.announced({}) == {BOTH.digest: BOTH}
        assert 0 < await redis.pttl(KEY) <= RETENTION_MS


async def test_without_redis_they_are_unknown_not_none():
    async with RedisCodeSchedules(f"redis://localhost:{free_port()}") as registry:
        for call in (registry.announced({}), registry.announce([BOTH]), registry.renew([BOTH.digest])):
            with pytest.raises(Unavailable):
                await call
            assert registry.trouble == "Redis is unavailable"


def test_the_digest_changes_with_everything_that_is_said():
    assert set_of([EVERYTHING, POLL]).digest == BOTH.digest
    others = [replace(EVERYTHING, handler="reports.other"), replace(EVERYTHING, spec=replace(EVERYTHING.spec, description="Other."))]
    assert len({BOTH.digest, *(set_of([POLL, one]).digest for one in others)}) == 3
    assert set_of([]) is None
