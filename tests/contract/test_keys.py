"""What a ledger must do with idempotency keys (`IdempotencyKeys`)."""

import asyncio
import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason
from sickbay.domain.queries import KeyClaim, Reservation
from tests.support import one_key
from tests.support.ledger_events import DAY, START

pytest_plugins = ["tests.support.ledger_fixtures"]

LEASE = 30_000


async def reserve(ledger, job_id="j1", *, digest=b"d", tenant="default", key="k"):
    return await one_key.reserve(ledger.keys, tenant, key, digest, job_id)


async def test_the_first_gets_the_key_and_repeats_are_duplicates(ledger, clock):
    assert await reserve(ledger) == Reservation("j1", START, duplicate=False)
    await one_key.confirm(ledger.keys, "default", "k")
    clock.now += 5
    assert await reserve(ledger, "j2") == Reservation("j1", START, duplicate=True)


async def test_keys_belong_to_tenants(ledger):
    await reserve(ledger)
    assert (await reserve(ledger, "j2", tenant="acme")).job_id == "j2"
    assert (await reserve(ledger, "j3", key="other")).job_id == "j3"


async def test_another_request_under_the_key_is_refused(ledger):
    await reserve(ledger)
    for _ in range(2):
        with pytest.raises(AlreadyExists):
            await reserve(ledger, digest=b"other")
        await one_key.confirm(ledger.keys, "default", "k")


async def test_while_the_first_is_under_way_others_wait(ledger, clock):
    await reserve(ledger)
    clock.now += LEASE - 1
    with pytest.raises(Aborted) as caught:
        await reserve(ledger, "j2")
    assert caught.value.reason is ErrorReason.REQUEST_IN_PROGRESS


async def test_exactly_one_of_many_wins(ledger):
    results = await asyncio.gather(*(reserve(ledger, f"j{number}") for number in range(20)), return_exceptions=True)
    assert sum(isinstance(result, Reservation) for result in results) == 1
    assert sum(isinstance(result, Aborted) for result in results) == 19


async def test_exactly_one_goes_on_where_the_first_vanished(ledger, clock):
    """Under the first one's job id, so that whatever it published is a duplicate by name."""
    await reserve(ledger)
    clock.now += LEASE
    results = await asyncio.gather(*(reserve(ledger, f"n{number}") for number in range(10)), return_exceptions=True)
    taken = [result for result in results if isinstance(result, Reservation)]
    assert taken == [Reservation("j1", START, duplicate=False, retaken=True)]
    clock.now += LEASE - 1
    with pytest.raises(Aborted):
        await reserve(ledger)


async def test_a_released_key_is_free_and_a_confirmed_one_stays(ledger):
    await reserve(ledger)
    await one_key.release(ledger.keys, "default", "k", "j2")
    with pytest.raises(Aborted):
        await reserve(ledger)
    await one_key.release(ledger.keys, "default", "k", "j1")
    assert await reserve(ledger, "j2") == Reservation("j2", START, duplicate=False)
    await one_key.confirm(ledger.keys, "default", "k")
    await one_key.release(ledger.keys, "default", "k", "j2")
    assert (await reserve(ledger, "j3")).duplicate


@pytest.mark.parametrize("pruned", [True, False])
async def test_a_key_is_forgotten_after_a_day(ledger, clock, pruned):
    await reserve(ledger)
    await one_key.confirm(ledger.keys, "default", "k")
    clock.now += DAY - 1
    if pruned:
        await ledger.writer.prune(clock.now)
    assert (await reserve(ledger, "j2")).duplicate
    clock.now += 1
    if pruned:
        await ledger.writer.prune(clock.now)
    assert (await reserve(ledger, "j2", digest=b"other")).job_id == "j2"


def steps():
    """Calls with several claims each, to few keys, by few requests; and how much time passes after each."""
    tenants, keys, digests, jobs = map(st.sampled_from, (["acme", "default"], "ab", [b"d", b"e"], "123"))
    claims = st.builds(KeyClaim, tenants, keys, digests, jobs)
    calls = st.sampled_from(["reserve", "reserve", "confirm", "release"])
    return st.lists(st.tuples(calls, st.lists(claims, max_size=6), st.sampled_from([0, 1, LEASE, DAY])), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps())
async def test_many_claims_in_a_call_are_as_many_calls(ledger, clock, program):
    """Whatever is claimed, confirmed and released, also several times in one call."""
    example = uuid.uuid4()
    for verb, claims, passes in program:
        together, apart = ([replace(one, key=f"{example}-{way}-{one.key}") for one in claims] for way in ("together", "apart"))
        many = await getattr(ledger.keys, verb)(together)
        single = [await getattr(ledger.keys, verb)([claim]) for claim in apart]
        if verb == "reserve":
            assert list(map(shown, many)) == [shown(result) for (result,) in single]
        clock.now += passes


def shown(result):
    """What can be compared."""
    return result if isinstance(result, Reservation) else (type(result), result.reason, str(result))


async def test_batches_that_cross_each_other_share_the_keys(ledger):
    """Each key has one owner, and nobody waits for ever, in whatever order each batch names them."""
    names = [f"k{number}" for number in range(60)]
    batches = [[KeyClaim("default", key, b"d", f"{batch}-{key}") for key in names[:: 1 if batch % 2 else -1]] for batch in range(8)]
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*map(ledger.keys.reserve, batches))
    owners = [result.job_id for results in answers for result in results if isinstance(result, Reservation)]
    assert sorted(owner.partition("-")[2] for owner in owners) == sorted(names)
    assert sum(isinstance(result, Aborted) for results in answers for result in results) == 7 * 60
    async with asyncio.timeout(20):
        await asyncio.gather(*map(ledger.keys.confirm, batches))
    assert all(result.duplicate for result in await ledger.keys.reserve(batches[0]))


async def test_nothing_claimed_is_nothing_done(ledger):
    assert list(await ledger.keys.reserve([])) == []
    await ledger.keys.confirm([])
    await ledger.keys.release([])
