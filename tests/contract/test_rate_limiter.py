"""What every `RateLimiter` must do: one suite for the adapter in memory, and for that in Redis."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from scripts.servers import free_port
from sickbay.adapters.embedded import rate_limiter as module
from sickbay.adapters.embedded.rate_limiter import EmbeddedRateLimiter
from sickbay.adapters.redis.rate_limiter import RedisRateLimiter
from sickbay.domain.errors import Unavailable
from sickbay.domain.rate_limit import Bucket, Claim, Frequency, Grant, Rate
from sickbay.domain.rate_limit import take as domain_take
from tests.support.clock import ManualClock
from tests.support.redis_servers import fake, own_database

ACME = Bucket("tenant:acme", Rate(Frequency(10, 1_000), 20))
EMAIL = Bucket("type:email", Rate(Frequency(60, 60_000), 5))


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["memory", "fake", pytest.param("real", marks=pytest.mark.servers)])
async def limiters(request, clock, patience):
    """Two that share their buckets, as two Job APIs do; in memory there is but one."""
    if request.param == "memory":
        limiter = EmbeddedRateLimiter(lambda: clock() * 1_000)
        yield limiter, limiter
    elif request.param == "fake":
        connect = fake()
        async with (
            RedisRateLimiter("redis://x", clock=clock, connect=connect) as a,
            RedisRateLimiter("redis://x", clock=clock, connect=connect) as b,
        ):
            yield a, b
    else:
        async with own_database() as url, RedisRateLimiter(url, clock=clock) as one, RedisRateLimiter(url, clock=clock) as other:
            yield one, other


async def take(limiter, wanted, *buckets):
    (grant,) = await limiter.take([Claim(buckets, wanted)])
    return grant


async def test_the_burst_is_granted_at_once_and_then_the_rate(limiters, clock):
    one, other = limiters
    assert await take(one, 15, ACME) == Grant(15)
    assert await take(other, 15, ACME) == Grant(5, ACME, 100_000, 2_000_000)
    clock.now += 99
    assert (await take(one, 1, ACME)).granted == 0
    clock.now += 1
    assert await take(one, 1, ACME) == Grant(1)
    assert await take(other, 1, ACME) == Grant(0, ACME, 100_000, 2_000_000)


async def test_an_idle_bucket_is_full_again_exactly_when_it_was_said(limiters, clock):
    one, other = limiters
    grant = await take(one, 21, ACME)
    clock.now += grant.reset_us // 1_000
    assert await take(other, 21, ACME) == Grant(20, ACME, 100_000, 2_000_000)


async def test_nothing_is_taken_of_one_bucket_if_another_says_no(limiters):
    """The tightest is named; what it refused is still there in the other."""
    one, other = limiters
    assert await take(one, 7, ACME, EMAIL) == Grant(5, EMAIL, 1_000_000, 5_000_000)
    assert (await take(other, 20, ACME)).granted == 15


async def test_claims_of_one_call_are_served_in_order(limiters):
    one, _ = limiters
    first, second, third = await one.take([Claim((ACME,), 12), Claim((ACME, EMAIL), 5), Claim((ACME,), 5)])
    assert (first, second) == (Grant(12), Grant(5))
    assert (third.granted, third.limited_by) == (3, ACME)


async def test_many_at_once_never_get_more_than_there_is(limiters, clock):
    """From both: 20 at first, and 10 per second after it."""

    async def taken():
        grants = await asyncio.gather(*(take(limiter, 1, ACME) for limiter in limiters for _ in range(40)))
        return sum(grant.granted for grant in grants)

    assert await taken() == 20
    for _ in range(5):
        clock.now += 1_000
        assert await taken() == 10


async def test_a_clock_that_is_set_back_delays_nothing(limiters, clock):
    """What was owed is owed, and paid back at the same rate from then on."""
    one, _ = limiters
    await take(one, 20, ACME)
    clock.now -= 3_600_000
    assert await take(one, 1, ACME) == Grant(0, ACME, 100_000, 2_000_000)
    clock.now += 100
    assert (await take(one, 1, ACME)).granted == 1


async def test_a_clock_that_is_set_forward_gives_a_full_bucket_once(limiters, clock):
    one, _ = limiters
    await take(one, 20, ACME)
    clock.now += 3_600_000
    assert (await take(one, 50, ACME)).granted == 20
    assert (await take(one, 50, ACME)).granted == 0


async def test_a_changed_rate_keeps_what_is_owed(limiters, clock):
    one, other = limiters
    await take(one, 10, ACME)
    slower = Bucket(ACME.name, Rate(Frequency(60, 60_000), 20))
    assert await take(other, 20, slower) == Grant(10, slower, 1_000_000, 20_000_000)
    smaller = Bucket(ACME.name, Rate(Frequency(10, 1_000), 5))
    assert await take(one, 1, smaller) == Grant(0, smaller, 100_000, 500_000)


async def test_without_redis_nobody_waits_for_long(patience):
    """The caller decides what to do; after three failures it is not even tried for a second."""
    async with RedisRateLimiter(f"redis://127.0.0.1:{free_port()}") as limiter:
        for _ in range(4):
            with pytest.raises(Unavailable):
                await take(limiter, 1, ACME)


@pytest.mark.servers
async def test_redis_decides_by_its_own_clock_and_forgets_full_buckets(patience):
    async with own_database() as url, RedisRateLimiter(url) as limiter, Redis.from_url(url) as redis:
        daily = Bucket("tenant:acme", Rate(Frequency(1, 3_600_000), 2))
        assert (await take(limiter, 3, daily)).granted == 2
        assert 7_190_000 < await redis.pttl("{door}:rate:tenant:acme") <= 7_200_001
        _, at, _ = (await redis.get("{door}:rate:tenant:acme")).split()
        seconds, _ = await redis.time()
        assert abs(int(at) / 1_000_000 - seconds) < 5


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 3)), max_size=200))
def test_memory_forgets_only_full_buckets(calls):
    """Law: a limiter that forgets grants what one grants that keeps all; and it does forget."""
    asyncio.run(_compare(calls))


async def _compare(calls):
    now, levels = [0], {}
    limiter = EmbeddedRateLimiter(lambda: now[0])
    for number, (step, wanted) in enumerate(calls):
        now[0] += step * 1_000
        claims = [Claim((Bucket(f"tenant:{number % 17}", ACME.rate),), wanted)]
        levels, expected = domain_take(levels, claims, now[0])
        assert await limiter.take(claims) == expected
    now[0] += 10_000_000
    for _ in range(20):
        await limiter.take([Claim((ACME,), 1)])
    assert len(limiter) == 1


async def test_memory_keeps_a_bounded_number_of_buckets(monkeypatch):
    monkeypatch.setattr(module, "MAX_BUCKETS", 10)
    limiter = EmbeddedRateLimiter(lambda: 0)
    for number in range(50):
        await take(limiter, 1, Bucket(f"tenant:{number}", ACME.rate))
    assert len(limiter) == 10
