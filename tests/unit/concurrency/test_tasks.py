"""Work that its caller cannot break off."""

import asyncio
import gc
import inspect
import logging

import pytest

from controlplane.breaker_service import BreakerApi
from controlplane.quarantine_service import QuarantineApi
from jobapi.service import JobApi
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.adapters.redis.duplicate_guard import RedisDuplicateGuard
from sickbay.adapters.redis.guarded_client import GuardedClient as RedisStore
from sickbay.adapters.sql.duplicate_guard import SqlDuplicateGuard
from sickbay.adapters.sql.holds import RemoteHolds
from sickbay.adapters.sql.keys import SqlIdempotencyKeys
from sickbay.adapters.sql.quarantine_queries import QuarantineQueries
from sickbay.adapters.sql.quarantine_store import SqlQuarantineStore
from sickbay.adapters.sql.reader import SqlReader
from sickbay.adapters.sql.writer import SqlWriter
from sickbay.concurrency import tasks
from sickbay.concurrency.tasks import DetachedTasks, background, detached
from sickbay.domain.errors import NotFound, Refused, Unavailable


class Place:
    """Something with one method that waits until it may go on."""

    def __init__(self, limit=10):
        self.detached = DetachedTasks(limit)
        self.may_go_on = asyncio.Event()
        self.began = asyncio.Event()
        self.done = []

    @detached
    async def work(self, what):
        self.began.set()
        await self.may_go_on.wait()
        if isinstance(what, BaseException):
            raise what
        self.done.append(what)
        return what

    async def leave(self, what):
        """Call it, and go away in the middle."""
        caller = asyncio.create_task(self.work(what))
        await self.began.wait()
        self.began.clear()
        caller.cancel()
        await asyncio.wait({caller})
        assert caller.cancelled()


@pytest.fixture
async def place():
    made = Place()
    yield made
    made.may_go_on.set()
    await made.detached.close()


async def test_a_caller_gets_what_the_work_returns_or_raises(place):
    """As if it had awaited the work itself."""
    place.may_go_on.set()
    assert await place.work(1) == 1
    with pytest.raises(NotFound):
        await place.work(NotFound("no"))


async def test_a_caller_that_is_cancelled_only_stops_waiting(place):
    """The work goes on, held by somebody although nobody waits for it, and comes to its end."""
    await place.leave(1)
    gc.collect()
    assert place.detached.left_behind == 1
    place.may_go_on.set()
    await place.detached.close()
    assert (place.done, place.detached.left_behind) == ([1], 0)


async def test_a_caller_that_is_cancelled_as_the_work_ends_is_cancelled(place):
    """In the very step in which the work is over."""
    caller = asyncio.create_task(place.work(1))
    await place.began.wait()
    place.may_go_on.set()
    while not place.done:
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert place.detached.left_behind == 0


@pytest.mark.parametrize(("error", "level"), [(NotFound("no such job"), logging.INFO), (ValueError("a bug"), logging.ERROR)])
async def test_a_failure_that_nobody_waits_for_is_told(place, caplog, error, level):
    """A refusal quietly, a fault of ours aloud."""
    caplog.set_level(logging.INFO)
    await place.leave(error)
    place.may_go_on.set()
    await place.detached.close()
    assert [record.levelno for record in caplog.records] == [level]


async def test_what_is_left_behind_is_bounded():
    """Beyond that nothing new is begun, until something has ended; those who wait for theirs do not count."""
    place = Place(limit=2)
    waiting = asyncio.create_task(place.work("waited for"))
    await place.began.wait()
    place.began.clear()
    for number in range(2):
        await place.leave(number)
    with pytest.raises(Refused, match="try again later"):
        await place.work("too much")
    place.detached.start(place.work("too much, too"))
    place.may_go_on.set()
    await waiting
    await place.detached.close()
    await place.work("again")
    assert sorted(map(str, place.done)) == ["0", "1", "again", "waited for"]


async def test_a_close_waits_and_then_breaks_off(place, caplog):
    """A caller who still waits is told that the service stops; the line names what took too long."""
    caller = asyncio.create_task(place.work(1))
    await place.leave(2)
    await place.detached.close(0.01)
    with pytest.raises(Unavailable, match="stopping"):
        await caller
    assert caplog.text.count("Place.work timed out while closing") == 2
    assert place.done == []
    await place.detached.close()


async def test_work_that_nobody_waits_for_is_done_before_the_end(place):
    """`start` returns at once, and the close waits."""
    place.detached.start(place.work(1))
    place.may_go_on.set()
    async with place.detached:
        pass
    assert place.done == [1]


CHANGING = {
    JobApi: ["SubmitJob", "BatchSubmitJobs", "CancelJob"],
    QuarantineApi: ["ResubmitJob", "DiscardJob"],
    BreakerApi: ["ResetBreaker", "ForceOpenBreaker", "DisableBreaker", "SetBreakerMetricsOnly", "SetBreakerAuto", "ProbeBreaker"],
    RabbitBroker: ["publish"],
    RedisStore: ["ask"],
    RedisDuplicateGuard: ["check", "crashes", "clear_crashes"],
    RemoteHolds: ["ask"],
}


@pytest.mark.parametrize(("kind", "names"), CHANGING.items())
def test_what_changes_something_is_detached(kind, names):
    """So its caller cannot break it off."""
    assert [name for name in names if not hasattr(getattr(kind, name), "__wrapped__")] == []


@pytest.mark.parametrize("kind", [SqlWriter, SqlReader, SqlDuplicateGuard, SqlIdempotencyKeys, SqlQuarantineStore, QuarantineQueries])
def test_everything_that_reaches_the_ledger_is_detached(kind):
    """Also what only reads; `prune` is many small transactions, each of them detached, and `begin` and `caught_up` ask memory alone."""
    methods = {name: method for name, method in vars(kind).items() if inspect.iscoroutinefunction(method) and not name.startswith("_")}
    assert [
        name for name, method in methods.items() if not hasattr(method, "__wrapped__") and name not in {"prune", "begin", "caught_up"}
    ] == []


async def test_background_work_that_ends_with_a_fault_is_begun_again(monkeypatch, caplog):
    """Ever more seldom; and what runs beside it goes on."""
    monkeypatch.setattr(tasks, "FIRST_PAUSE_S", 0.001)
    begun, beside = [], asyncio.Event()
    well = asyncio.Event()

    async def fragile():
        begun.append(len(begun))
        if len(begun) < 4:
            raise KeyError("a fault of ours")
        well.set()

    async def other():
        await well.wait()
        beside.set()

    async with asyncio.timeout(10), background(fragile, other):
        await beside.wait()
    assert begun == [0, 1, 2, 3]
    told = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert [record.args[0] > 0 for record in told] == [True] * 3
    assert told[-1].args[0] > told[0].args[0]
    assert "a fault of ours" in caplog.text


async def test_background_work_is_cancelled_at_the_end():
    """Also while it waits to be begun again."""
    ended = asyncio.Event()

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def broken():
        raise KeyError

    async with asyncio.timeout(10), background(endless, broken):
        await asyncio.sleep(0)
    assert ended.is_set()
