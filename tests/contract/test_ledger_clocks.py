"""Which clock the ledger goes by: one for everybody, and what a clock that was set can do to a lease is bounded."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Aborted
from sickbay.system.clock import wall_clock
from tests.support import one_key
from tests.support.ledger_events import DAY, parked, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

EMAIL = BreakerKey("email")
HOUR = 3_600_000


@asynccontextmanager
async def two_machines(url, ahead_ms):
    """The ledger as two processes have it whose clocks differ."""
    async with AsyncExitStack() as stack:
        clocks = (wall_clock, lambda: wall_clock() + ahead_ms)
        yield [await stack.enter_async_context(open_ledger(url, clock, own_time=True)) for clock in clocks]


@pytest.mark.servers
@pytest.mark.parametrize("ahead_ms", [-HOUR, -35_000, 35_000, HOUR])
async def test_a_release_under_way_is_not_taken_over_by_a_machine_whose_clock_differs(postgres, ahead_ms):
    async with two_machines(postgres.url, ahead_ms) as (one, other):
        await one.writer.apply([parked("a"), parked("b")])
        await one.quarantine.lease_parked(EMAIL, 1)
        await other.quarantine.lease_parked(EMAIL, 1)
        assert await one.quarantine.lease_expired() == await other.quarantine.lease_expired() == []


@pytest.mark.servers
@pytest.mark.parametrize("ahead_ms", [-HOUR, -35_000, 35_000, HOUR])
async def test_a_submission_under_way_is_not_taken_over_by_a_machine_whose_clock_differs(postgres, ahead_ms):
    async with two_machines(postgres.url, ahead_ms) as (one, other):
        assert abs((await one_key.reserve(one.keys, "default", "k", b"digest", "j1")).submitted_at - wall_clock()) < 60_000
        with pytest.raises(Aborted):
            await one_key.reserve(other.keys, "default", "k", b"digest", "j2")
        await one_key.reserve(other.keys, "default", "o", b"digest", "j3")
        with pytest.raises(Aborted):
            await one_key.reserve(one.keys, "default", "o", b"digest", "j4")


async def test_a_clock_that_is_days_ahead_forgets_nothing_early(url):
    async with open_ledger(url, lambda: wall_clock() + 40 * DAY, own_time=True) as ledger:
        await ledger.writer.apply([succeeded("a", at=wall_clock())])
        assert await ledger.writer.prune(wall_clock() + 40 * DAY) == 0
        assert await ledger.reader.get("a")


async def test_a_lease_given_before_the_clock_was_set_back_is_over(ledger, clock):
    """It ends an hour later than any lease can, so its end says nothing; the copy is marked and fenced as ever."""
    await ledger.writer.apply([parked("a")])
    await ledger.quarantine.lease_parked(EMAIL, 1)
    await one_key.reserve(ledger.keys, "default", "k", b"digest", "j1")
    clock.now -= HOUR
    (claim,) = await ledger.quarantine.lease_expired()
    assert (claim.job.job_id, claim.job.maybe_duplicate) == ("a", True)
    assert (await one_key.reserve(ledger.keys, "default", "k", b"digest", "j2")).retaken
