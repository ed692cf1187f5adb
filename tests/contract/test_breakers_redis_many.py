"""Hundreds of breakers are read from Redis in few large replies; what is read is the same as one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.documents import PACK_ABOVE, unpacked
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState
from sickbay.domain.outcome import Outcome, OutcomeKind
from tests.support.redis_servers import eventually, own_database

DOWN = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", 'no "answer"\nof \u00fcber \U0001f600')
KEYS = sorted(BreakerKey(f"type-{number % 7}", f"tenant-{number:03}") for number in range(2 * PACK_ABOVE + 5))


def is_garbled(value):
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False


def packed(values):
    """As `cmsgpack.pack` does it: false for what is missing, and a string whatever its bytes are."""
    return bytes([0x90 + len(values)]) + b"".join(b"\xc2" if value is None else bytes([0xA0 + len(value)]) + value for value in values)


@given(values=st.lists(st.none() | st.text(min_size=1, max_size=5) | st.binary(min_size=1, max_size=5).filter(is_garbled), max_size=9))
def test_joined_values_come_apart_again(values):
    """What is not UTF-8 takes nothing else with it."""
    sent = [value.encode() if isinstance(value, str) else value for value in values]
    there, found = unpacked(b"\x92" + packed([b"there"]) + packed(sent))
    assert there == ["there"]
    assert found == ["\ufffd" if isinstance(value, bytes) else value for value in values]


async def fail(breakers, keys, times=1):
    for key in keys:
        for number in range(times):
            await breakers.settle(await breakers.admit(key, f"job-{number}"), DOWN)


@pytest.fixture
async def redis():
    async with own_database() as url, Redis.from_url(url) as client:
        yield url, client


def told(snapshots):
    return {one.key: (one.state, one.failures_in_row, one.reason_message, one.total_failures, one.degraded) for one in snapshots}


@pytest.mark.servers
@pytest.mark.usefixtures("patience")
async def test_many_are_what_each_is_alone(redis):
    url, client = redis
    config = BreakerConfig(failure_threshold=3)
    async with RedisBreakers(url, config) as one, RedisBreakers(url, config) as other:
        await fail(one, KEYS)
        await fail(one, KEYS[:3], 2)
        await client.set(f"breaker:{KEYS[5].name}", b"\xff\xfenot a document\n1,2")
        await client.delete(f"breaker:{KEYS[6].name}")
        assert await other.keys() == KEYS == await other.keys()
        await client.hset("breakers", b"\xff", 1)
        many = told(await other.snapshots(KEYS))
        alone = {}
        for key in KEYS:
            alone |= told(await other.snapshots({key}))
        assert many == alone
        assert many[KEYS[0]][0] is BreakerState.OPEN
        assert many[KEYS[4]] == (BreakerState.CLOSED, 1, "", 1, False)
        assert {KEYS[5], KEYS[6]}.isdisjoint(many)
        assert told(await other.snapshots()).keys() == many.keys()
        gone, new = KEYS[7], BreakerKey("new", "tenant")
        await client.delete(f"breaker:{gone.name}")
        await fail(one, [new])
        assert new in await other.keys()
        found = told(await other.snapshots({*KEYS, new}))
        assert gone not in found
        assert found[new][1] == 1
        await eventually(lambda: other._sync.view.get(new) is not None)
