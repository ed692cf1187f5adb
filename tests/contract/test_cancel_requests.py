"""Somebody asks to cancel a job whose run has begun: the ledger remembers it, tells the worker, and lets no other run follow."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.queries import DuplicateCheck, HoldAnswer, JobQuery, QuarantineQuery
from tests.support.ledger_events import START, cancelled, job, parked, quarantined, queued, retrying, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

ASKED_AT = START + 150


def asked(job_id="j1", *, at=ASKED_AT, **fields):
    """As the Job API tells it."""
    return JobEvent(job(job_id, **fields), JobState.RUNNING, at, cancel_requested=True)


def nothing(job_id):
    return False


async def state(ledger, job_id="j1"):
    record = await ledger.reader.get(job_id)
    return record.state, record.cancel_requested_at


async def test_it_is_remembered_and_changes_nothing_else(ledger):
    await ledger.writer.apply([queued(), running()])
    before = await ledger.reader.get("j1")
    await ledger.writer.apply([asked()])
    assert await ledger.reader.get("j1") == replace(before, cancel_requested_at=ASKED_AT)
    assert [record.cancel_requested_at for record in (await ledger.reader.find(JobQuery(), 10, "")).items] == [ASKED_AT]
    await ledger.writer.apply([asked(at=ASKED_AT + 9)])
    assert await state(ledger) == (JobState.RUNNING, ASKED_AT), "when it was first asked"


@pytest.mark.parametrize("ended", [retrying(), parked(), quarantined()], ids=lambda event: event.state)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_run_that_does_not_succeed_is_the_last(ledger, ended, at_once):
    await ledger.writer.apply([queued(), running()])
    for batch in [[asked(), ended]] if at_once else [[asked()], [ended]]:
        await ledger.writer.apply(batch)
    assert await state(ledger) == (JobState.CANCELLED, ASKED_AT)
    assert ledger.duplicate_guard.is_cancelled(ended.job), "a copy that its worker published is dropped"
    assert not (await ledger.quarantine.list_quarantined(QuarantineQuery(), 10, "")).items
    last = (await ledger.reader.history("j1"))[-1]
    assert (last.state, last.code) == (JobState.CANCELLED, "CANCELLED")
    assert ("API_TIMEOUT" in last.message) == (ended.started_at is not None), "how the run ended"


async def test_a_success_counts(ledger):
    await ledger.writer.apply([queued(), running(), asked()])
    await ledger.writer.apply([succeeded()])
    assert await state(ledger) == (JobState.SUCCEEDED, ASKED_AT)


@pytest.mark.parametrize("ended", [succeeded(), cancelled(), parked()], ids=lambda event: event.state)
async def test_it_comes_too_late_for_a_job_that_does_not_run(ledger, ended):
    await ledger.writer.apply([queued(), running(), ended])
    await ledger.writer.apply([asked()])
    assert await state(ledger) == (ended.state, 0)
    assert not ledger.duplicate_guard.is_to_end(job())


async def test_an_unknown_job_is_not_made_by_it(ledger):
    await ledger.writer.apply([asked()])
    assert await ledger.reader.get("j1") is None


async def test_it_may_come_in_one_batch_with_the_submission(ledger):
    await ledger.writer.apply([asked(), running(), queued()])
    assert await state(ledger) == (JobState.RUNNING, ASKED_AT)


async def test_a_copy_that_comes_again_is_not_run(ledger):
    """Its worker has died."""
    await ledger.writer.apply([queued(), running(), asked()])
    assert await ledger.duplicate_guard.check(job(), suspect=True) == DuplicateCheck(superseded=False, is_to_end=True)
    assert await ledger.duplicate_guard.crashes(job()) == 0
    for later in (job(attempt=1), job(generation=1)):
        assert (await ledger.duplicate_guard.check(later, suspect=False)).is_to_end


async def test_only_the_worker_that_runs_it_is_told(ledger):
    told = []
    ledger.duplicate_guard.register_worker(nothing, told.append, takes_jobs=True)
    await ledger.writer.apply([queued(), running(), queued("j2"), running("j2")])
    assert await ledger.duplicate_guard.begin(job())
    await ledger.writer.apply([asked(), asked("j2")])
    assert ledger.duplicate_guard.is_to_end(job("j2"))
    assert set(told) == {"j1"}
    assert ledger.duplicate_guard.is_to_end(job())
    assert not ledger.duplicate_guard.is_to_end(job("j3"))


async def test_its_watchers_see_it(ledger):
    await ledger.writer.apply([queued(), running()])
    async with ledger.reader.watch("j1") as changes, asyncio.timeout(5):
        await ledger.writer.apply([asked()])
        record, change = await anext(changes)
        assert (record.state, record.cancel_requested_at, change) == (JobState.RUNNING, ASKED_AT, None)
        await ledger.writer.apply([retrying()])
        record, change = await anext(changes)
        assert (record.state, record.cancel_requested_at, change.state) == (JobState.CANCELLED, ASKED_AT, JobState.CANCELLED)


@pytest.mark.servers
async def test_another_process_is_told_also_if_it_was_deaf(postgres, clock):
    heard = asyncio.Queue()
    async with AsyncExitStack() as stack:
        keeper, worker = [await stack.enter_async_context(open_ledger(postgres.url, clock)) for _ in range(2)]
        worker.duplicate_guard.register_worker(nothing, heard.put_nowait, takes_jobs=True)
        for number in range(3):
            await keeper.writer.apply([queued(f"j {number}"), running(f"j {number}")])
            assert await worker.duplicate_guard.begin(job(f"j {number}"))
        await keeper.writer.apply([asked("j 0"), asked("j 1")])
        async with asyncio.timeout(5):
            assert {await heard.get(), await heard.get()} == {"j 0", "j 1"}
        async with keeper.store.write() as connection:
            await connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE 'LISTEN%'"
            )
        await keeper.writer.apply([asked("j 2")])
        async with asyncio.timeout(10):
            while await heard.get() != "j 2":
                pass


@pytest.mark.servers
async def test_a_process_of_before_is_known_by_its_answer(postgres, clock):
    """The fourth field says that runs can be cancelled; it said nothing before."""
    async with AsyncExitStack() as stack:
        asker, worker, old = [await stack.enter_async_context(open_ledger(postgres.url, clock)) for _ in range(3)]
        worker.duplicate_guard.register_worker(nothing, takes_jobs=True)
        async with asker.holds.hold(["j1"]) as hold:
            assert await hold.ask(1) == HoldAnswer(frozenset(), 1)
        old.duplicate_guard.register_worker(nothing, takes_jobs=True)
        send = old.holds._send
        old.holds._send = lambda texts: send([text.replace(" 1 1 - ", " 1 0 - ").replace(" 0 1 - ", " 0 0 - ") for text in texts])
        async with asker.holds.hold(["j1"]) as hold:
            assert await hold.ask(2) == HoldAnswer(frozenset(), 2, can_cancel=False)
