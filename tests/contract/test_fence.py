"""What a ledger must tell a worker whose copy may not be the only one (`DuplicateGuard`)."""

import pytest

from scripts.servers import free_port
from sickbay.adapters.redis.duplicate_guard import RedisDuplicateGuard
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.queries import DuplicateCheck
from tests.support.ledger_events import DAY, cancelled, job, parked, quarantined, queued, retrying, running, succeeded
from tests.support.redis_servers import own_database

pytest_plugins = ["tests.support.ledger_fixtures"]

GO = DuplicateCheck(superseded=False)
DROP = DuplicateCheck(superseded=True)


@pytest.mark.parametrize(
    ("known", "copy", "answer"),
    [
        (None, job(), GO),
        (queued(), job(), GO),
        (running(), job(), GO),
        (retrying(), job(), DROP),
        (retrying(), job(attempt=1), GO),
        (retrying(), job(attempt=2), GO),
        (parked(), job(), DROP),
        (quarantined(), job(attempt=3), DROP),
        (parked(), job(generation=1), GO),
        (queued(generation=1), job(), DROP),
        (succeeded(), job(), DROP),
        (succeeded(), job(attempt=2), DROP),
        (succeeded(), job(generation=1), GO),
        (cancelled(), job(), DROP),
    ],
)
@pytest.mark.parametrize("suspect", [True, False])
async def test_later_truth_supersedes_a_copy(ledger, known, copy, answer, suspect):
    if known:
        await ledger.writer.apply([known])
    assert await ledger.duplicate_guard.check(copy, suspect=suspect) == answer


async def test_a_copy_just_released_may_run(ledger):
    await ledger.writer.apply([parked()])
    (claim,) = await ledger.quarantine.lease_parked(BreakerKey("email"), 1)
    assert await ledger.duplicate_guard.check(claim.job, suspect=False) == GO


async def count_runs(fence):
    """Each start that was not followed by `clear_crashes` was a crash; only the very same copy counts, and asking counts nothing."""
    await fence.clear_crashes(job())  # harmless without having entered
    assert [(await fence.check(job(), suspect=True)).crashes for _ in range(3)] == [0, 1, 2]
    assert [await fence.crashes(copy) for copy in (job(), job(), job(attempt=1), job("j2"))] == [3, 3, 0, 0]
    assert (await fence.check(job(attempt=1), suspect=True)).crashes == 0
    assert (await fence.check(job(), suspect=False)).crashes == 0
    await fence.clear_crashes(job())
    assert (await fence.check(job(), suspect=True)).crashes == 0
    assert (await fence.check(job(attempt=1), suspect=True)).crashes == 1


async def test_the_runs_of_a_suspect_are_counted(ledger):
    await count_runs(ledger.duplicate_guard)


@pytest.mark.servers
async def test_the_runs_of_a_suspect_are_counted_without_a_ledger():
    async with own_database() as url, RedisDuplicateGuard(url) as fence:
        await count_runs(fence)


async def test_without_redis_and_ledger_nobody_can_tell_of_crashes():
    async with RedisDuplicateGuard(f"redis://127.0.0.1:{free_port()}") as fence:
        with pytest.raises(Unavailable):
            await fence.crashes(job())


async def test_crashes_survive_the_process(tmp_path, clock):
    url = f"sqlite:///{tmp_path}/ledger.db"
    for crashes in range(3):
        async with open_ledger(url, clock) as ledger:
            assert (await ledger.duplicate_guard.check(job(), suspect=True)).crashes == crashes


async def test_a_cancelled_job_is_known_at_once(ledger):
    assert not ledger.duplicate_guard.is_cancelled(job())
    await ledger.writer.apply([queued(), cancelled()])
    assert ledger.duplicate_guard.is_cancelled(job())
    assert not ledger.duplicate_guard.is_cancelled(job("j2"))
    assert not ledger.duplicate_guard.is_cancelled(job(generation=1))


async def test_a_cancellation_that_came_too_late_stops_nothing(ledger):
    await ledger.writer.apply([queued("j1", generation=1), succeeded("j2")])
    await ledger.writer.apply([cancelled("j1"), cancelled("j2")])
    assert not ledger.duplicate_guard.is_cancelled(job("j1", generation=1))
    assert not ledger.duplicate_guard.is_cancelled(job("j2"))


async def test_a_cancellation_holds_for_every_attempt_of_its_generation(ledger):
    """Also if the ledger had not heard of a retry when it was told: the retry neither takes the answer back nor runs."""
    await ledger.writer.apply([queued(), cancelled()])
    await ledger.writer.apply([retrying()])
    assert (await ledger.reader.get("j1")).state is JobState.CANCELLED
    assert ledger.duplicate_guard.is_cancelled(job(attempt=1))
    assert await ledger.duplicate_guard.check(job(attempt=1), suspect=False) == DROP
    assert not ledger.duplicate_guard.is_cancelled(job(generation=1))


async def test_a_discarded_job_is_called_off_too(ledger):
    await ledger.writer.apply([parked()])
    await ledger.quarantine.discard("j1", "", "ann")
    assert ledger.duplicate_guard.is_cancelled(job(attempt=1))
    await ledger.writer.apply([retrying()])
    assert (await ledger.reader.get("j1")).state is JobState.DISCARDED


async def test_cancellations_are_remembered_for_a_day(tmp_path, clock):
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with open_ledger(url, clock) as ledger:
        await ledger.writer.apply([cancelled()])
    async with open_ledger(url, clock) as ledger:
        assert ledger.duplicate_guard.is_cancelled(job())
        clock.now += 2 * DAY
        await ledger.writer.prune(clock.now)
        assert not ledger.duplicate_guard.is_cancelled(job())
