"""The embedded broker beyond the contract: it survives kill -9, a full disk, and a failing one."""

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict

import pytest

from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.concurrency.pauses import Backoff
from sickbay.domain.errors import Unavailable
from sickbay.ports import Message, Queue
from tests.support.broker_messages import jobs, take
from tests.support.kill_target import LIMIT
from tests.support.queue_files import PATIENCE, drain


def run_victim(path, lines):
    """Let the victim work for that many lines, kill it, and return what it told by word."""
    told = defaultdict(set)
    with subprocess.Popen([sys.executable, "-m", "tests.support.kill_target", path], stdout=subprocess.PIPE) as victim:
        for count, line in enumerate(victim.stdout):
            word, number = line.decode().split()
            told[word].add(number)
            if count == lines:
                victim.kill()
    return told


@pytest.mark.parametrize("lines", [1, 400, 1500])
async def test_kill_9_loses_nothing_and_marks_what_was_handed_out(path, clock, lines):
    told = run_victim(path, lines)
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock) as broker:
        found = await drain(broker)
        assert await broker.depth(Queue.MAIN) == 0
    assert all(len(times) == 1 for times in found.values())
    assert told["P"] - told["A"] <= found.keys()
    marked = {number for number, (mark,) in found.items() if mark}
    assert told["G"] - told["A"] <= marked
    # One hand-out may have been stored without its `get` having returned.
    assert len(marked - told["G"]) <= LIMIT


async def test_a_full_disk_is_unavailable_until_there_is_room(broker):
    await broker.publish(jobs("before"))
    pages = broker._store._connection.execute("PRAGMA page_count").fetchone()[0]
    broker._store._connection.execute(f"PRAGMA max_page_count = {pages}")
    large = "x" * 1_000_000
    outcomes = await asyncio.gather(broker.publish(jobs(large)), broker.publish(jobs("beside")), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["disk full under the queue file"] * 2
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    broker._store._connection.execute("PRAGMA max_page_count = 1000000")
    await broker.publish(jobs("after"))
    assert await drain(broker) == {"before": [False], "after": [False]}


async def test_a_locked_file_fails_gets_and_keeps_acks_for_later(path, broker):
    """The failed hand-out is not marked, and nobody waits for ever."""
    await broker.publish(jobs(*"abc"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        (a,) = await take(consumer, 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        a.ack()
        with pytest.raises(Unavailable, match="is temporarily unavailable"):
            await consumer.get(1)
        with pytest.raises(Unavailable):
            await broker.publish(jobs("d"))
        other.execute("ROLLBACK")
        assert [(d.body, d.redelivered) for d in await take(consumer, 2)] == [(b"b", False), (b"c", False)]
        assert other.execute('SELECT CAST(body AS TEXT) FROM "jobs.main" ORDER BY id').fetchall() == [("b",), ("c",)]
        other.close()


async def test_acks_that_failed_are_tried_again_without_being_asked(path, broker):
    broker._retry_pauses = Backoff(0.01, 0.01)
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        (a,) = await take(consumer, 1)
        failed, stored = asyncio.Event(), asyncio.Event()
        fail, answer = broker._fail_batch, broker._resolve_all
        broker._fail_batch = lambda *given: (fail(*given), failed.set())
        broker._resolve_all = lambda *given: (answer(*given), stored.set())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        a.ack()
        await failed.wait()
        other.execute("ROLLBACK")
        await stored.wait()
        assert other.execute('SELECT count(*) FROM "jobs.main"').fetchone() == (0,)
        other.close()


async def test_a_disk_that_stays_full_is_asked_ever_more_seldom(broker, monkeypatch):
    """From 1 s to 10 s; one success, and the pauses begin anew."""
    waits = []
    monkeypatch.setattr(broker._timer, "schedule_in", waits.append)
    with monkeypatch.context() as broken:

        def full(*_):
            raise Unavailable("disk full under the queue file")

        broken.setattr(broker, "_transact", full)
        for _ in range(6):
            with pytest.raises(Unavailable):
                await broker.publish(jobs("a"))
            broker._queues[Queue.MAIN].inbox.clear()
    assert [0.8 * s <= wait <= 1.2 * s for wait, s in zip(waits, (1, 2, 4, 8, 10, 10), strict=True)] == [True] * 6
    assert len(set(waits)) == 6, "spread by chance"
    await broker.publish(jobs("b"))
    assert 0.8 <= broker._retry_pauses.next_s() <= 1.2


async def test_a_transaction_that_fails_at_its_end_is_as_if_it_had_never_been(broker, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError

    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 10) as consumer:
        with monkeypatch.context() as broken:
            broken.setattr(broker._store, "move_position", fail)
            outcomes = await asyncio.gather(consumer.get(10), broker.publish(jobs("b")), return_exceptions=True)
            assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        assert await broker.depth(Queue.MAIN) == 1
        assert [(d.body, d.redelivered) for d in await consumer.get(10)] == [(b"a", False)]


async def test_a_failed_publish_leaves_a_waiting_get_waiting(path, broker):
    async with broker.consume(Queue.MAIN, 10) as consumer:
        waiting = asyncio.create_task(consumer.get(1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            await broker.publish(jobs("a"))
        assert not waiting.done()
        other.execute("ROLLBACK")
        other.close()
        await broker.publish(jobs("b"))
        assert [d.body for d in await waiting] == [b"b"]


async def test_a_failing_disk_is_unavailable_until_a_checkpoint_has_repaired_the_log(broker, monkeypatch):
    def fail(_descriptor):
        raise OSError(errno.EIO, "secret words of the system")

    checkpoints = []
    checkpoint = broker._store.checkpoint
    monkeypatch.setattr(broker._store, "checkpoint", lambda: (checkpoints.append(1), checkpoint()))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(Unavailable, match="I/O error") as caught:
            await broker.publish(jobs("perhaps"))
        assert "secret" not in str(caught.value)
    await broker.publish(jobs("certainly"))
    assert checkpoints
    assert (await drain(broker))["certainly"] == [False]


async def test_a_hand_out_the_disk_refused_is_given_again(broker, monkeypatch):
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        with monkeypatch.context() as broken:
            broken.setattr(broker._store, "sync", lambda: (_ for _ in ()).throw(Unavailable("no disk")))
            with pytest.raises(Unavailable):
                await consumer.get(1)
        assert [d.body for d in await consumer.get(1)] == [b"a"]


async def test_full_means_every_confirm_waited_for_the_disk(path, clock, monkeypatch):
    synced = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), fdatasync(descriptor)))
    async with SqliteBroker(path, clock) as broker:
        for count in range(1, 4):
            await broker.publish(jobs("a"))
            assert len(synced) == count
        await asyncio.gather(*(broker.publish(jobs("b")) for _ in range(50)))
        assert len(synced) == 4
    async with SqliteBroker(path, clock, "NORMAL") as broker:
        await broker.publish(jobs("c"))
        assert len(synced) == 4


async def test_from_publish_to_waiting_consumer_is_one_wait_for_the_disk(broker, monkeypatch):
    synced = []
    async with broker.consume(Queue.MAIN, 10) as consumer:
        waiting = asyncio.create_task(consumer.get(1))
        await broker.publish([Message("job.accepted", b"")])
        monkeypatch.setattr(broker._store, "sync", lambda: synced.append(1))
        await broker.publish(jobs("a"))
        assert [d.body for d in await waiting] == [b"a"]
        assert synced == [1]


async def noticed(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_full_disk_is_told_and_its_end_is_found_without_being_asked(broker, monkeypatch):
    broker._retry_pauses = Backoff(0.01, 0.01)
    await broker.publish(jobs("before"))
    pages = broker._store._connection.execute("PRAGMA page_count").fetchone()[0]
    broker._store._connection.execute(f"PRAGMA max_page_count = {pages}")
    store_clock = broker._store.store_clock

    def full(now):
        store_clock(now)
        raise sqlite3.OperationalError

    with monkeypatch.context() as still:
        still.setattr(broker._store, "store_clock", full)
        with pytest.raises(Unavailable):
            await broker.publish(jobs("x" * 1_000_000))
        assert broker.trouble == "disk full under the queue file"
        await noticed(lambda: "temporarily unavailable" in broker.trouble)  # the second try's words
    broker._store._connection.execute("PRAGMA max_page_count = 1000000")
    await noticed(lambda: not broker.trouble)
    assert await drain(broker) == {"before": [False]}


async def test_a_disk_that_goes_on_failing_is_tried_with_pauses(broker, monkeypatch):
    """Once for the publish, and then not before the pause is over, whatever else goes on."""
    synced = []

    def fail():
        synced.append(1)
        raise Unavailable("no disk")

    await broker.publish(jobs("before"))
    with monkeypatch.context() as broken:
        broken.setattr(broker._store, "sync", fail)
        with pytest.raises(Unavailable):
            await broker.publish(jobs("a"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert (len(synced), broker.trouble) == (1, "no disk")
        broker._retry_pauses = Backoff(0.01, 0.01)
        broker._timer.schedule_in(0)
        await noticed(lambda: len(synced) > 2)
    await noticed(lambda: not broker.trouble)
