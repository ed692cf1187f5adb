"""What every `RunRates` must do: one suite for the adapter in memory, and for that in Redis."""

import pytest

from scripts.servers import free_port
from sickbay.adapters.embedded.run_rates import EmbeddedRunRates
from sickbay.adapters.redis.run_rates import RedisRunRates
from sickbay.domain.errors import Unavailable
from sickbay.domain.rate_limit import Frequency, Rate
from sickbay.domain.run_rate import FORMED_US, HELD_US, VALID_US
from tests.support.clock import ManualClock
from tests.support.redis_servers import fake, own_database

TEN = Rate(Frequency(10, 1_000), 5)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["memory", "fake", pytest.param("real", marks=pytest.mark.servers)])
async def stores(request, clock, patience):
    """Two that share their buckets, as a worker and a control plane do; in memory there is but one."""
    if request.param == "memory":
        rates = EmbeddedRunRates(lambda: clock() * 1_000)
        yield rates, rates
    elif request.param == "fake":
        connect = fake()
        async with (
            RedisRunRates("redis://x", clock=clock, connect=connect) as one,
            RedisRunRates("redis://x", clock=clock, connect=connect) as other,
        ):
            yield one, other
    else:
        async with own_database() as url, RedisRunRates(url, clock=clock) as one, RedisRunRates(url, clock=clock) as other:
            yield one, other


async def test_the_burst_runs_at_once_and_the_next_is_told_when(stores, clock):
    one, other = stores
    assert [(await rates.run("email", TEN)).granted for rates in (one, other, one, other, one)] == [1] * 5
    refused = await other.run("email", TEN)
    assert (refused.granted, refused.wait_us, refused.at) == (0, 100_000, clock() * 1_000)
    assert (await other.run("sms", TEN)).granted == 1, "each type has a bucket of its own"


async def test_who_was_refused_stands_before_new_jobs_of_other_workers(stores, clock):
    worker, plane = stores
    await plane.release("email", TEN, 5, waiting=False)
    assert (await worker.run("email", TEN)).granted == 0
    clock.now += FORMED_US // 1_000 - 1
    assert (await worker.run("email", TEN)).granted == 0
    assert (await plane.release("email", TEN, 9, waiting=True)).granted == 5
    clock.now += HELD_US // 1_000 - 1
    assert (await worker.run("email", TEN)).granted == 0
    assert (await plane.release("email", TEN, 0, waiting=False)).granted == 0
    assert (await worker.run("email", TEN)).granted == 1


async def test_a_paid_job_runs_and_takes_nothing(stores, clock):
    worker, plane = stores
    paid_at = (await plane.release("email", TEN, 5, waiting=True)).at
    clock.now += VALID_US // 1_000
    assert (await worker.run("email", TEN, paid_at)).granted == 1
    assert (await plane.release("email", TEN, 9, waiting=True)).granted == 5
    clock.now += 1
    assert (await worker.run("email", TEN, paid_at)).granted == 0


async def test_a_charge_is_never_refused(stores, clock):
    one, other = stores
    assert (await one.charge("email", TEN, 9)).granted == 9
    clock.now += 200
    assert (await other.release("email", TEN, 9, waiting=True)).granted == 2


async def test_a_changed_rate_holds_at_once(stores, clock):
    one, other = stores
    await one.release("email", TEN, 5, waiting=True)
    clock.now += 1_000
    assert (await other.release("email", Rate(Frequency(1, 1_000), 5), 99, waiting=True)).granted == 1


async def test_redis_keeps_nothing_of_a_full_bucket(patience):
    """By the clock of Redis."""
    connect = fake()
    client = connect("redis://x")
    async with RedisRunRates("redis://x", connect=connect) as rates:
        await rates.release("email", TEN, 1, waiting=False)
        assert 0 < await client.pttl("run:rate:email") <= 1_001
        await rates.release("email", TEN, 0, waiting=True)
        assert 4_000 < await client.pttl("run:rate:email") <= 5_001
    await client.aclose()


async def test_a_redis_that_is_away_is_unavailable(patience):
    async with RedisRunRates(f"redis://127.0.0.1:{free_port()}") as rates:
        with pytest.raises(Unavailable):
            await rates.run("email", TEN)
