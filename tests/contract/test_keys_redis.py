"""The contract of idempotency keys on Redis: the very tests of test_keys.py, and what only a server that forgets by itself can do."""

from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from scripts.servers import free_port
from sickbay.adapters.redis import keys as module
from sickbay.adapters.redis import write_check
from sickbay.adapters.redis.client import KeyRejected
from sickbay.adapters.redis.keys import RedisIdempotencyKeys
from sickbay.domain.errors import Unavailable
from sickbay.domain.queries import KeyClaim
from tests.contract.test_keys import (  # noqa: F401 - collected here once more, on the `ledger` of this module
    test_a_key_is_forgotten_after_a_day,
    test_a_released_key_is_free_and_a_confirmed_one_stays,
    test_another_request_under_the_key_is_refused,
    test_batches_that_cross_each_other_share_the_keys,
    test_exactly_one_goes_on_where_the_first_vanished,
    test_exactly_one_of_many_wins,
    test_keys_belong_to_tenants,
    test_many_claims_in_a_call_are_as_many_calls,
    test_nothing_claimed_is_nothing_done,
    test_the_first_gets_the_key_and_repeats_are_duplicates,
    test_while_the_first_is_under_way_others_wait,
)
from tests.support import one_key
from tests.support.clock import ManualClock
from tests.support.redis_servers import eventually, fake, own_database, own_server


class NothingToPrune:
    """Redis forgets by itself."""

    async def prune(self, _now):
        return 0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.servers)])
async def ledger(request, clock, patience):
    """The shape of a ledger, as far as these tests know it."""
    if request.param == "fake":
        async with RedisIdempotencyKeys("redis://fake", clock=clock, connect=fake()) as keys:
            yield SimpleNamespace(keys=keys, writer=NothingToPrune())
        return
    async with own_database() as url, RedisIdempotencyKeys(url, clock=clock) as keys:
        yield SimpleNamespace(keys=keys, writer=NothingToPrune())


@pytest.mark.servers
async def test_redis_keeps_a_key_for_a_day_by_its_own_clock(patience):
    async with own_database() as url, RedisIdempotencyKeys(url) as keys, Redis.from_url(url) as redis:
        first = await one_key.reserve(keys, "acme", "k", b"\xff\x00", "j1")
        await one_key.confirm(keys, "acme", "k")
        assert 86_390 < await redis.ttl("idempotency:acme:k") <= 86_400
        seconds, _ = await redis.time()
        assert abs(first.submitted_at / 1000 - seconds) < 5
        assert (await one_key.reserve(keys, "acme", "k", b"\xff\x00", "j2")).duplicate


async def test_without_redis_a_key_is_neither_taken_nor_free():
    async with RedisIdempotencyKeys(f"redis://127.0.0.1:{free_port()}") as keys:
        for _ in range(4):
            with pytest.raises(Unavailable) as caught:
                await one_key.reserve(keys, "default", "k", b"d", "j1")
            assert "127.0.0.1" not in str(caught.value)


@pytest.mark.servers
async def test_one_broken_key_is_its_own_trouble(patience):
    """A key that somebody has put something else under; and a Redis that has forgotten the script in the middle of a life."""
    async with own_database() as url, RedisIdempotencyKeys(url) as keys, Redis.from_url(url) as redis:
        await redis.set("idempotency:acme:b", "no hash")
        claims = [KeyClaim("acme", key, b"d", f"j-{key}") for key in "abc"]
        await redis.script_flush()
        first, broken, third = await keys.reserve(claims)
        assert (first.job_id, type(broken), third.job_id) == ("j-a", KeyRejected, "j-c")
        assert not keys.trouble
        await redis.script_flush()
        with pytest.raises(KeyRejected):
            await keys.confirm(claims)
        assert [getattr(one, "duplicate", None) for one in await keys.reserve(claims)] == [True, None, True]


@pytest.mark.servers
async def test_trouble_is_known_without_anybody_who_uses_keys(monkeypatch):
    """Away, back, and refusing writes; what is tried leaves nothing behind and is nobody's key."""
    monkeypatch.setattr(write_check, "TRY_S", 0.01)
    monkeypatch.setattr(write_check, "TRY_AGAIN_S", 0.01)
    async with own_server() as server, RedisIdempotencyKeys(server.url) as keys, Redis.from_url(server.url) as redis:
        await eventually(lambda: redis.exists(module.TEST_KEY))
        assert not keys.trouble
        await redis.config_set("maxmemory", 1)
        await eventually(lambda: keys.trouble == "Redis rejects writes")
        await redis.config_set("maxmemory", 0)
        await eventually(lambda: not keys.trouble)
        await server.kill()
        await eventually(lambda: keys.trouble == "Redis is unavailable")
        await server.start()
        await eventually(lambda: not keys.trouble, 60)
    async with own_database() as url, Redis.from_url(url) as redis:
        async with RedisIdempotencyKeys(url):
            await eventually(lambda: redis.exists(module.TEST_KEY))
        await eventually(lambda: _is_empty(redis))


async def _is_empty(redis):
    return await redis.dbsize() == 0
