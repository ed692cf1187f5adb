"""What handlers returned: kept with the success that the ledger keeps, shown with single jobs, and deleted with them."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from sickbay.adapters.sql.schema import job_results, jobs
from sickbay.domain.job import JobState
from sickbay.domain.queries import JobQuery
from sickbay.domain.result import Result
from tests.support.ledger_events import DAY, START, cancelled, parked, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

FIRST = Result(b'{ "n": 9007199254740993,  "u":"\xc3\xa9\\u0000" }')
SECOND = Result(b"[2]")
NOT_KEPT = Result(note="the result has 70,000 bytes of JSON; at most 65,536 are kept")


def returned(result, job_id="j1", **fields):
    return replace(succeeded(job_id, **fields), result=result)


async def result(ledger, job_id="j1"):
    return (await ledger.reader.get(job_id)).result


async def rows(ledger):
    async with ledger.store.read() as connection:
        return (await connection.execute(select(func.count()).select_from(job_results))).scalar_one()


@pytest.mark.parametrize("kept", [FIRST, NOT_KEPT, Result(b"null")])
async def test_it_is_kept_byte_for_byte_or_the_reason_why_not(ledger, kept):
    await ledger.writer.apply([queued(), returned(kept)])
    assert await result(ledger) == kept


async def test_a_job_without_one_costs_no_row(ledger):
    await ledger.writer.apply([queued(), succeeded(), succeeded("j2")])
    assert await result(ledger) is None
    assert await rows(ledger) == 0


async def test_lists_do_not_have_it(ledger):
    await ledger.writer.apply([returned(FIRST)])
    assert [record.result for record in (await ledger.reader.find(JobQuery(), 10, "")).items] == [None]


async def test_a_replay_changes_nothing(ledger):
    for _ in range(3):
        await ledger.writer.apply([returned(FIRST), running()])
    assert await result(ledger) == FIRST
    assert await rows(ledger) == 1
    assert (await ledger.reader.get("j1")).duplicates == 0


@pytest.mark.parametrize("together", [True, False])
async def test_of_two_runs_that_succeeded_in_one_generation_the_first_counts(ledger, together):
    events = [returned(FIRST, run="a.1"), returned(SECOND, run="b.1", at=START + 900)]
    for batch in [events] if together else [[event] for event in events]:
        await ledger.writer.apply(batch)
    assert await result(ledger) == FIRST
    assert (await ledger.reader.get("j1")).duplicates == 1


async def test_a_success_of_a_later_generation_replaces_it_and_an_earlier_one_does_not(ledger):
    await ledger.writer.apply([returned(FIRST)])
    await ledger.writer.apply([returned(SECOND, generation=1, run="w.3")])
    await ledger.writer.apply([returned(FIRST)])
    assert await result(ledger) == SECOND
    assert await rows(ledger) == 1


async def test_a_later_success_without_a_result_has_none(ledger):
    """Although nothing is deleted for it."""
    await ledger.writer.apply([returned(FIRST)])
    await ledger.writer.apply([succeeded(generation=1, run="w.3")])
    assert await result(ledger) is None
    await ledger.writer.apply([succeeded("j2", run="w.2"), returned(FIRST, "j2", run="w.4")])
    assert await result(ledger, "j2") is None


@pytest.mark.parametrize("later", [queued(generation=1), parked(generation=1), running(generation=1), retrying(generation=1)])
async def test_a_job_that_is_not_over_has_none(ledger, later):
    await ledger.writer.apply([returned(FIRST)])
    await ledger.writer.apply([later])
    assert await result(ledger) is None
    await ledger.writer.apply([returned(SECOND, generation=2)])
    assert await result(ledger) == SECOND


async def test_a_success_after_a_cancellation_has_it(ledger):
    await ledger.writer.apply([cancelled()])
    await ledger.writer.apply([returned(FIRST)])
    assert await result(ledger) == FIRST


async def test_a_watcher_gets_it_with_the_success(ledger):
    async with ledger.reader.watch("j1") as watcher:
        await ledger.writer.apply([queued(), running()])
        await ledger.writer.apply([returned(FIRST, run="w.1")])
        news = [await anext(watcher) for _ in range(3)]
    assert [(record.state, record.result) for record, _ in news] == [
        (JobState.QUEUED, None),
        (JobState.RUNNING, None),
        (JobState.SUCCEEDED, FIRST),
    ]


async def test_it_is_deleted_with_its_job(ledger):
    await ledger.writer.apply([returned(FIRST, at=START), returned(SECOND, "j2", at=START + DAY)])
    assert await ledger.writer.prune(START + DAY) == 1
    assert await ledger.reader.get("j1") is None
    assert await result(ledger, "j2") == SECOND
    assert await rows(ledger) == 1


async def test_what_a_control_plane_of_before_left_is_deleted_too(ledger):
    """It deletes the job and does not know the table."""
    await ledger.writer.apply([returned(FIRST, at=START)])
    async with ledger.store.write() as connection:
        await connection.execute(jobs.delete())
    await ledger.writer.prune(START + DAY)
    assert await rows(ledger) == 0


async def test_many_results_in_one_batch(ledger):
    await ledger.writer.apply([returned(Result(b"%d" % number), f"j{number}", run=f"w.{number}") for number in range(300)])
    assert [await result(ledger, f"j{number}") for number in (0, 7, 299)] == [Result(b"0"), Result(b"7"), Result(b"299")]
