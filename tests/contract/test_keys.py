"""What a ledger must do with idempotency keys (`IdempotencyKeys`)."""

import asyncio

import pytest

from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason
from sickbay.domain.queries import Reservation
from tests.support.ledger_events import DAY, START

pytest_plugins = ["tests.support.ledger_fixtures"]

LEASE = 30_000


async def reserve(ledger, job_id="j1", *, digest=b"d", tenant="default", key="k"):
    return await ledger.keys.reserve(tenant, key, digest, job_id)


async def test_the_first_gets_the_key_and_repeats_are_duplicates(ledger, clock):
    assert await reserve(ledger) == Reservation("j1", START, duplicate=False)
    await ledger.keys.confirm("default", "k")
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
        await ledger.keys.confirm("default", "k")


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
    await ledger.keys.release("default", "k", "j2")
    with pytest.raises(Aborted):
        await reserve(ledger)
    await ledger.keys.release("default", "k", "j1")
    assert await reserve(ledger, "j2") == Reservation("j2", START, duplicate=False)
    await ledger.keys.confirm("default", "k")
    await ledger.keys.release("default", "k", "j2")
    assert (await reserve(ledger, "j3")).duplicate


@pytest.mark.parametrize("pruned", [True, False])
async def test_a_key_is_forgotten_after_a_day(ledger, clock, pruned):
    await reserve(ledger)
    await ledger.keys.confirm("default", "k")
    clock.now += DAY - 1
    if pruned:
        await ledger.writer.prune(clock.now)
    assert (await reserve(ledger, "j2")).duplicate
    clock.now += 1
    if pruned:
        await ledger.writer.prune(clock.now)
    assert (await reserve(ledger, "j2", digest=b"other")).job_id == "j2"
