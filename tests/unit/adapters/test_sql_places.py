"""One read of the ledger answers everybody who asked before it began (`sickbay/adapters/sql/places.py`)."""

import asyncio

import pytest

from sickbay.adapters.sql.chunks import MAX_VALUES
from sickbay.adapters.sql.places import Place, PlaceReader
from sickbay.concurrency.tasks import DetachedTasks
from sickbay.domain.errors import ErrorReason, Refused, Unavailable


class Store:
    """A ledger whose reads end when the test says so; `version` is the generation of every job whose id has one letter."""

    def __init__(self):
        self.version = 0
        self.reads = []
        self.open = asyncio.Event()
        self.open.set()
        self.error = None
        self.begun = asyncio.Semaphore(0)

    async def read(self, job_ids):
        self.reads.append(set(job_ids))
        found = {job_id: Place(self.version, 1, 5) for job_id in job_ids if len(job_id) == 1}
        self.begun.release()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return found


@pytest.fixture
async def tasks():
    async with DetachedTasks() as tasks:
        yield tasks


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def reader(store, tasks):
    return PlaceReader(store.read, tasks)


def ask(reader, *job_ids):
    return [asyncio.create_task(reader.find(job_id)) for job_id in job_ids]


async def test_one_who_asks_alone_is_answered(reader, store):
    store.version = 3
    assert await reader.find("a") == Place(3, 1, 5)
    assert await reader.find("unknown") is None
    assert store.reads == [{"a"}, {"unknown"}]


async def test_those_who_ask_at_once_share_a_read(reader, store):
    found = await asyncio.gather(*ask(reader, "a", "b", "unknown", "a"))
    assert found == [Place(0, 1, 5), Place(0, 1, 5), None, Place(0, 1, 5)]
    assert store.reads == [{"a", "b", "unknown"}]


async def test_an_answer_is_from_a_read_that_began_after_the_question(reader, store):
    """Whoever asks during a read gets the next one, also about the same job."""
    store.open.clear()
    early = ask(reader, "a", "b")
    await store.begun.acquire()
    store.version = 1
    late = ask(reader, "a", "c")
    await asyncio.sleep(0)
    store.open.set()
    assert [place.generation for place in await asyncio.gather(*early)] == [0, 0]
    assert [place.generation for place in await asyncio.gather(*late)] == [1, 1]
    assert store.reads == [{"a", "b"}, {"a", "c"}]


async def test_reads_do_not_run_beside_each_other(reader, store):
    """So however many ask, two reads at most are due."""
    store.open.clear()
    asked = ask(reader, "a")
    await store.begun.acquire()
    for job_id in "bcdefgh":
        asked += ask(reader, job_id)
        await asyncio.sleep(0)
    assert len(store.reads) == 1
    store.open.set()
    await asyncio.gather(*asked)
    assert store.reads == [{"a"}, set("bcdefgh")]


async def test_a_read_has_its_most_jobs(reader, store):
    ids = [f"j{number}" for number in range(2 * MAX_VALUES + 1)]
    await asyncio.gather(*ask(reader, *ids))
    assert [len(read) for read in store.reads] == [MAX_VALUES, MAX_VALUES, 1]
    assert set.union(*store.reads) == set(ids)


async def test_all_who_share_a_failed_read_learn_of_it_and_the_next_ones_do_not(reader, store):
    store.error = Unavailable("away")
    results = await asyncio.gather(*ask(reader, "a", "b", "c"), return_exceptions=True)
    assert [str(result) for result in results] == ["away"] * 3
    store.error = None
    assert await reader.find("a") == Place(0, 1, 5)


@pytest.mark.parametrize("leaving", [0, 1, 2])
@pytest.mark.parametrize("during", [True, False])
async def test_one_who_leaves_breaks_off_nothing_for_the_others(reader, store, leaving, during):
    """Neither the first, in whose name the read is done, nor another."""
    store.open.clear()
    asked = ask(reader, "a", "b", "c")
    if during:
        await store.begun.acquire()
    else:
        await asyncio.sleep(0)
    asked[leaving].cancel()
    store.open.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(results.pop(leaving), asyncio.CancelledError)
    assert results == [Place(0, 1, 5)] * 2
    assert store.reads == [{"a", "b", "c"}]


async def test_those_who_wait_when_the_service_stops_are_told(store):
    store.open.clear()
    tasks = DetachedTasks()
    reader = PlaceReader(store.read, tasks)
    asked = ask(reader, "a", "b")
    await store.begun.acquire()
    asked += ask(reader, "c", "d")
    await asyncio.sleep(0)
    await tasks.close(0.01)
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [result.reason for result in results] == [ErrorReason.SHUTTING_DOWN] * 4


async def test_a_read_that_may_not_begin_leaves_nobody_waiting(store):
    async with DetachedTasks(limit=0) as tasks:
        reader = PlaceReader(store.read, tasks)
        results = await asyncio.gather(*ask(reader, "a", "b"), return_exceptions=True)
    assert [type(result) for result in results] == [Refused, Refused]
    assert store.reads == []
