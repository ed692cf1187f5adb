"""How a start is stopped that costs no I/O (`Holds` and `DuplicateGuard.begin`): inside one process, and among several on PostgreSQL."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from sickbay.adapters.sql import holds, starts
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.errors import Unavailable
from sickbay.domain.queries import HoldAnswer
from tests.support.ledger_events import cancelled, job, queued

pytest_plugins = ["tests.support.ledger_fixtures"]


def nothing(job_id):
    return False


async def many(stack, url, clock, count):
    return [await stack.enter_async_context(open_ledger(url, clock)) for _ in range(count)]


async def soon(waiting):
    """What it comes to."""
    async with asyncio.timeout(5):
        return await waiting


async def beginning(fence, copy):
    """A start that waits because its job is held."""
    task = asyncio.create_task(fence.begin(copy))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_held_job_begins_no_run_until_it_is_let_go(ledger):
    ledger.duplicate_guard.register_worker(nothing, takes_jobs=True)
    async with ledger.holds.hold(["j1"]) as hold:
        assert await hold.ask(1) == HoldAnswer(frozenset(), 1)
        waiting = await beginning(ledger.duplicate_guard, job())
        assert await ledger.duplicate_guard.begin(job("j2"))
    assert await soon(waiting)


async def test_a_held_job_that_is_called_off_begins_no_run_at_all(ledger):
    ledger.duplicate_guard.register_worker(nothing, takes_jobs=True)
    async with ledger.holds.hold(["j1"]) as hold:
        await hold.ask(1)
        waiting = await beginning(ledger.duplicate_guard, job())
        await ledger.writer.apply([queued(), cancelled()])
    assert not await soon(waiting)


async def test_a_run_that_has_begun_is_told_until_its_end_is_durable(ledger):
    untold = set()
    ledger.duplicate_guard.register_worker(untold.__contains__, takes_jobs=True)
    async with ledger.holds.hold(["j1", "j2"]) as hold:
        assert (await hold.ask(1)).begun == frozenset()
    assert await ledger.duplicate_guard.begin(job())
    assert await ledger.duplicate_guard.begin(job())
    for _ in range(2):
        async with ledger.holds.hold(["j1", "j2"]) as hold:
            assert (await hold.ask(1)).begun == {"j1"}
        ledger.duplicate_guard.end(job())
    async with ledger.holds.hold(["j1"]) as hold:
        assert (await hold.ask(1)).begun == frozenset()
        untold.add("j1")
        assert (await hold.ask(1)).begun == {"j1"}


async def test_two_holds_on_one_job_end_each_by_itself(ledger):
    ledger.duplicate_guard.register_worker(nothing, takes_jobs=True)
    async with ledger.holds.hold(["j1"]) as first:
        await first.ask(1)
        async with ledger.holds.hold(["j1"]) as second:
            await second.ask(1)
            waiting = await beginning(ledger.duplicate_guard, job())
        await beginning(ledger.duplicate_guard, job())
    assert await soon(waiting)


async def test_a_hold_whose_owner_vanished_ends_by_itself(ledger, monkeypatch):
    monkeypatch.setattr(starts, "HOLD_S", 0.05)
    ledger.duplicate_guard.register_worker(nothing, takes_jobs=True)
    async with ledger.holds.hold(["j1"]) as hold:
        await hold.ask(1)
        assert await soon(ledger.duplicate_guard.begin(job()))


@pytest.mark.servers
async def test_every_worker_is_asked(postgres, clock):
    """Each holds and answers; the answer of one that takes no jobs any more does not count, but its run does."""
    async with AsyncExitStack() as stack:
        asker, first, second, draining = await many(stack, postgres.url, clock, 4)
        for worker in (first, second, draining):
            worker.duplicate_guard.register_worker(nothing, takes_jobs=worker is not draining)
        assert await draining.duplicate_guard.begin(job("j2"))
        async with asker.holds.hold(["j1", "j2"]) as hold:
            heard = await hold.ask(2)
            assert heard.workers == 2
            waiting = [await beginning(worker.duplicate_guard, job()) for worker in (first, second)]
            while not heard.begun:  # that of the draining one may come last, it is not waited for
                heard = await hold.ask(2)
            assert heard.begun == {"j2"}
        assert await soon(asyncio.gather(*waiting)) == [True, True]


@pytest.mark.servers
async def test_a_cancellation_is_heard_before_the_hold_is_over(postgres, clock):
    async with AsyncExitStack() as stack:
        asker, keeper, worker = await many(stack, postgres.url, clock, 3)
        worker.duplicate_guard.register_worker(nothing, takes_jobs=True)
        for number in range(20):
            async with asker.holds.hold([f"j{number}"]) as hold:
                await hold.ask(1)
                waiting = await beginning(worker.duplicate_guard, job(f"j{number}"))
                await keeper.writer.apply([queued(f"j{number}"), cancelled(f"j{number}")])
            assert not await soon(waiting)


@pytest.mark.servers
async def test_a_worker_that_does_not_hear_is_missed(postgres, clock, monkeypatch):
    monkeypatch.setattr(holds, "ANSWER_S", 0.3)
    async with AsyncExitStack() as stack:
        asker, worker = await many(stack, postgres.url, clock, 2)
        worker.duplicate_guard.register_worker(nothing, takes_jobs=True)
        async with asker.holds.hold(["j1"]) as hold:
            assert (await hold.ask(2)).workers == 1


@pytest.mark.servers
async def test_many_jobs_are_held_with_several_texts(postgres, clock):
    ids = [f"j{number:03}-{'x' * 50}" for number in range(300)]
    async with AsyncExitStack() as stack:
        asker, worker = await many(stack, postgres.url, clock, 2)
        worker.duplicate_guard.register_worker(nothing, takes_jobs=True)
        for job_id in ids[::2]:
            assert await worker.duplicate_guard.begin(job(job_id))
        async with asker.holds.hold(ids) as hold:
            assert await hold.ask(1) == HoldAnswer(frozenset(ids[::2]), 1)
            assert await hold.ask(1) == HoldAnswer(frozenset(ids[::2]), 1)
            waiting = await beginning(worker.duplicate_guard, job(ids[1]))
        assert await soon(waiting)


@pytest.mark.servers
async def test_nobody_is_asked_while_notifications_are_not_heard(postgres, clock):
    async with open_ledger(postgres.url, clock) as ledger:
        await ledger.link.close()
        async with ledger.holds.hold(["j1"]) as hold:
            with pytest.raises(Unavailable):
                await hold.ask(0)
