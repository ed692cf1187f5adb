"""What runs say about their progress: the latest word of the run that goes on, and nothing of any other."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from sickbay.adapters.sql.schema import job_changes, job_progress, jobs
from sickbay.domain.job import JobState
from sickbay.domain.progress import Progress
from sickbay.domain.queries import JobQuery
from tests.support.ledger_events import DAY, START, cancelled, parked, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

HALF = Progress(0.5, "1 of 2", START + 1_000)
MOST = Progress(0.9, "\u00e9", START + 2_000)


def said(progress, job_id="j1", started_at=START + 100, **fields):
    """As a worker tells it: an event of the run, later than its start."""
    begun = running(job_id, **fields)
    return replace(begun, at=progress.at, started_at=started_at, progress=progress)


async def progress(ledger, job_id="j1"):
    return (await ledger.reader.get(job_id)).progress


async def rows(ledger, table=job_progress):
    async with ledger.store.read() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def test_the_latest_word_is_kept_and_changes_nothing_else(ledger):
    await ledger.writer.apply([queued(), running()])
    before = await ledger.reader.get("j1")
    await ledger.writer.apply([said(HALF)])
    assert await ledger.reader.get("j1") == replace(before, progress=HALF)
    await ledger.writer.apply([said(MOST)])
    assert await ledger.reader.get("j1") == replace(before, progress=MOST)
    assert [change.state for change in await ledger.reader.history("j1")] == [JobState.QUEUED, JobState.RUNNING]
    assert (await rows(ledger, job_changes), await rows(ledger)) == (0, 1)


async def test_it_may_come_before_the_start_or_with_it(ledger):
    await ledger.writer.apply([said(HALF)])
    record = await ledger.reader.get("j1")
    assert (record.state, record.started_at, record.progress) == (JobState.RUNNING, START + 100, HALF)
    await ledger.writer.apply([queued("j2"), running("j2"), said(MOST, "j2"), said(HALF, "j2")])
    assert await progress(ledger, "j2") == MOST


async def test_a_run_that_says_nothing_costs_no_row(ledger):
    await ledger.writer.apply([queued(), running()])
    await ledger.writer.apply([succeeded()])
    assert await rows(ledger) == 0


async def test_lists_do_not_have_it(ledger):
    await ledger.writer.apply([said(HALF)])
    assert [record.progress for record in (await ledger.reader.find(JobQuery(), 10, "")).items] == [None]


async def test_an_older_word_does_not_replace_a_newer_one(ledger):
    for one in (MOST, HALF, MOST):
        await ledger.writer.apply([said(one)])
    assert await progress(ledger) == MOST


@pytest.mark.parametrize("end", [retrying(), parked(), succeeded(), cancelled(), queued(generation=1)])
async def test_it_ends_with_its_run(ledger, end):
    await ledger.writer.apply([running(), said(HALF)])
    await ledger.writer.apply([end])
    assert await progress(ledger) is None
    await ledger.writer.apply([said(MOST)])
    assert await progress(ledger) is None, "a late word"
    assert (await ledger.reader.get("j1")).state is end.state


@pytest.mark.parametrize("later", [{"attempt": 1}, {"generation": 1}])
async def test_an_old_run_says_nothing_about_a_newer_one(ledger, later):
    await ledger.writer.apply([said(MOST)])
    await ledger.writer.apply([running(at=START + 5_000, **later)])
    assert await progress(ledger) is None
    newer = replace(HALF, at=START + 6_000)
    await ledger.writer.apply([said(newer, **later)])
    await ledger.writer.apply([said(replace(MOST, at=START + 7_000))])
    assert await progress(ledger) == newer


async def test_a_run_after_a_crash_replaces_what_the_dead_one_said(ledger):
    """Both are of one attempt, so only their starts tell them apart; what is still on its way from the first one is too late."""
    await ledger.writer.apply([said(replace(MOST, at=START + 9_000))])
    second = replace(HALF, at=START + 8_000)
    await ledger.writer.apply([said(second, started_at=START + 7_000, run="x.1")])
    await ledger.writer.apply([said(replace(MOST, at=START + 9_500))])
    assert await progress(ledger) == second


async def test_a_watcher_gets_it_without_a_change(ledger):
    async with ledger.reader.watch("j1") as watcher:
        await ledger.writer.apply([queued(), running()])
        assert [(await anext(watcher))[1].state for _ in range(2)] == [JobState.QUEUED, JobState.RUNNING]
        for one in (HALF, MOST):
            await ledger.writer.apply([said(one)])
            record, change = await anext(watcher)
            assert (record.state, record.progress, change) == (JobState.RUNNING, one, None)
        assert record == await ledger.reader.get("j1")
        await ledger.writer.apply([said(HALF), said(MOST, "j2")])
        await ledger.writer.apply([succeeded(run="w.1")])
        record, change = await anext(watcher)
        assert (change.state, record.progress) == (JobState.SUCCEEDED, None)


async def test_a_watcher_that_comes_late_hears_what_is_new_only(ledger):
    await ledger.writer.apply([queued(), running(), said(HALF)])
    async with ledger.reader.watch("j1") as watcher:
        await ledger.writer.apply([said(HALF)])
        await ledger.writer.apply([said(MOST)])
        record, change = await anext(watcher)
        assert (record.progress, change) == (MOST, None)


async def test_it_is_deleted_with_its_job_also_by_a_control_plane_of_before(ledger):
    await ledger.writer.apply([said(HALF), said(HALF, "j2")])
    await ledger.writer.apply([succeeded(at=START)])
    await ledger.writer.prune(START + DAY)
    assert (await rows(ledger), await progress(ledger, "j2")) == (1, HALF)
    async with ledger.store.write() as connection:
        await connection.execute(jobs.delete())
    await ledger.writer.prune(START + DAY + 1_000)
    assert await rows(ledger) == 0
