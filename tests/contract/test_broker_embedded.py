"""What the embedded broker promises beyond the contract: it survives kill -9, a full disk, a failing one, and other people's files."""

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict

import pytest

from sickbay.adapters.embedded import broker as broker_module
from sickbay.adapters.embedded import store as store_module
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.topology import MAX_DELAY_MS
from sickbay.errors import SettingsError, Unavailable
from sickbay.ports import TO_MAIN, TO_RETRY, Message, Queue
from tests.clock import ManualClock
from tests.contract.broker_messages import jobs, take
from tests.contract.broker_victim import LIMIT

PATIENCE = 20


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queue.db"


@pytest.fixture
async def broker(path, clock):
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock) as opened:
        yield opened


async def drain(broker):
    """Everything that waits in the main queue, with its marks; a body twice would show as a list of two."""
    found = defaultdict(list)
    async with broker.consume(Queue.MAIN, 1_000_000) as consumer:
        for delivery in await take(consumer, await broker.depth(Queue.MAIN)):
            found[delivery.body.decode()].append(delivery.redelivered)
            delivery.ack()
    return found


def run_victim(path, lines):
    """Let the victim work for that many lines, kill it, and return what it told by word."""
    told = defaultdict(set)
    with subprocess.Popen([sys.executable, "-m", "tests.contract.broker_victim", path], stdout=subprocess.PIPE) as victim:
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
    assert [str(outcome) for outcome in outcomes] == ["the disk under the queue file is full"] * 2
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
        with pytest.raises(Unavailable, match="cannot be used right now"):
            await consumer.get(1)
        with pytest.raises(Unavailable):
            await broker.publish(jobs("d"))
        other.execute("ROLLBACK")
        assert [(d.body, d.redelivered) for d in await take(consumer, 2)] == [(b"b", False), (b"c", False)]
        assert other.execute('SELECT CAST(body AS TEXT) FROM "jobs.main" ORDER BY id').fetchall() == [("b",), ("c",)]
        other.close()


async def test_acks_that_failed_are_tried_again_without_being_asked(path, broker, monkeypatch):
    monkeypatch.setattr(broker_module, "_TRY_AGAIN_SECONDS", 0.01)
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        (a,) = await take(consumer, 1)
        failed, stored = asyncio.Event(), asyncio.Event()
        fail, answer = broker._fail, broker._answer
        broker._fail = lambda *given: (fail(*given), failed.set())
        broker._answer = lambda *given: (answer(*given), stored.set())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        a.ack()
        await failed.wait()
        other.execute("ROLLBACK")
        await stored.wait()
        assert other.execute('SELECT count(*) FROM "jobs.main"').fetchone() == (0,)
        other.close()


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
        with pytest.raises(Unavailable, match="reported an error") as caught:
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


async def test_a_delay_that_ended_while_nobody_ran_is_due_on_opening(path, clock):
    async with SqliteBroker(path, clock) as broker:
        await broker.publish([Message(TO_RETRY, b"b", 3_000_000), Message(TO_RETRY, b"a", 2_000_000), Message(TO_RETRY, b"c", 9_000_000)])
    clock.now += 5_000_000
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock) as broker, broker.consume(Queue.MAIN, 10) as consumer:
        assert [(d.body, d.redelivered) for d in await take(consumer, 2)] == [(b"a", False), (b"b", False)]
        assert await broker.depth(Queue.RETRY) == 1


async def test_thousands_of_due_retries_move_in_several_turns_in_due_order(broker, clock):
    await broker.publish([Message(TO_RETRY, str(n).encode(), 2000 - n) for n in range(1200)])
    clock.now += 2000
    async with broker.consume(Queue.MAIN, 2000) as consumer:
        await broker.publish(jobs("nudge"))
        assert [d.body.decode() for d in await take(consumer, 1201)] == ["nudge", *map(str, reversed(range(1200)))]


async def test_an_idle_broker_has_no_work_and_no_timer(broker, clock):
    await broker.publish(jobs("a"))
    await drain(broker)
    await broker.publish([Message("job.succeeded", b"")])
    assert not broker._has_work(clock())
    assert not broker._alarm.is_set


@pytest.mark.parametrize(
    "message",
    [
        Message(TO_RETRY, b"", delay_ms=-1),
        Message(TO_RETRY, b"", delay_ms=MAX_DELAY_MS + 1),
        Message(TO_MAIN, b"", message_id="\ud800"),
        Message(TO_MAIN, "text"),
        Message(TO_MAIN, b"", headers={"a": b"bytes"}),
    ],
    ids=["negative delay", "long delay", "id no text", "body no bytes", "header no text"],
)
async def test_a_message_that_cannot_be_stored_harms_no_neighbour(broker, message):
    neighbour, refused = await asyncio.gather(broker.publish(jobs("a")), broker.publish([message]), return_exceptions=True)
    assert neighbour is None
    assert isinstance(refused, (ValueError, TypeError))
    assert await drain(broker) == {"a": [False]}


async def test_ids_and_headers_may_hold_any_text(broker):
    await broker.publish(jobs("a", message_id='"\x00ü\n\\', headers={"\x00": "\ud800"}))
    async with broker.consume(Queue.MAIN, 1) as consumer:
        (delivery,) = await take(consumer, 1)
        assert (delivery.message_id, delivery.headers) == ('"\x00ü\n\\', {"\x00": "\ud800"})


async def test_a_hand_out_ends_before_it_fills_the_memory(broker):
    await broker.publish([Message(TO_MAIN, bytes(1024 * 1024)) for _ in range(20)])
    async with broker.consume(Queue.MAIN, 100) as consumer:
        assert 1 <= len(await consumer.get(100)) < 20


async def test_what_was_being_handed_out_on_stop_goes_back_unmarked(broker):
    await broker.publish(jobs("a"))
    async with broker.consume(Queue.MAIN, 1) as leaving, broker.consume(Queue.MAIN, 1) as staying:
        waiting = asyncio.create_task(leaving.get(1))
        handed_out = asyncio.Event()
        wait_for_disk = broker._use_disk
        broker._use_disk = lambda *job: (handed_out.set(), wait_for_disk(*job))
        await handed_out.wait()
        await leaving.stop()
        assert list(await waiting) == []
        assert [d.redelivered for d in await take(staying, 1)] == [False]


async def test_a_get_cancelled_in_the_moment_of_its_answer_gives_it_back(broker):
    async with broker.consume(Queue.MAIN, 1) as consumer:
        waiting = asyncio.create_task(consumer.get(1))
        await broker.publish(jobs("a", "b"))
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [(d.body, d.redelivered) for d in await take(consumer, 1)] == [(b"a", False)]


async def test_a_get_stopped_in_the_moment_of_its_answer_gives_it_to_the_next(broker):
    async with broker.consume(Queue.MAIN, 1) as leaving, broker.consume(Queue.MAIN, 1) as staying:
        waiting, next_one = asyncio.create_task(leaving.get(1)), asyncio.create_task(staying.get(1))
        await broker.publish(jobs("a"))
        assert not waiting.done()
        await leaving.stop()
        assert list(await waiting) == []
        assert [(d.body, d.redelivered) for d in await next_one] == [(b"a", False)]


async def test_cancelled_gets_leave_nothing_behind(broker):
    async with broker.consume(Queue.MAIN, 1) as consumer:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(consumer.get(1), 0.001)
        assert not broker._lanes[Queue.MAIN].claims


async def test_checkpoints_between_turns_change_nothing(path, clock, monkeypatch):
    monkeypatch.setattr(store_module, "_CHECKPOINT_BYTES", 0)
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock) as broker:
        await asyncio.gather(*(broker.publish(jobs(str(n))) for n in range(20)))
        async with broker.consume(Queue.MAIN, 20) as consumer:
            for delivery in await take(consumer, 10):
                delivery.ack()
        assert list(await drain(broker)) == [str(n) for n in range(10, 20)]


async def test_deleted_messages_make_room_for_new_ones(path, clock):
    """Neither the file nor its log grows with what has passed through, and most of a worked-off backlog goes back to the disk."""
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock, "NORMAL") as broker:
        for _ in range(60):
            await broker.publish([Message(TO_MAIN, bytes(50_000)) for _ in range(20)])
            await drain(broker)
        assert path.stat().st_size < 6_000_000
        assert path.with_name("queue.db-wal").stat().st_size < 40_000_000


async def test_an_emptied_file_shrinks(path, clock, monkeypatch):
    monkeypatch.setattr(store_module, "_CHECKPOINT_BYTES", 0)
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock, "NORMAL") as broker:
        await broker.publish([Message(TO_MAIN, bytes(1_000_000)) for _ in range(8)])
        await drain(broker)
        for _ in range(20):
            await broker.publish(jobs("a"))
    assert path.stat().st_size < 4_000_000


def write_sqlite(path, *statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def refusal(path, clock):
    with pytest.raises(SettingsError) as caught:
        await SqliteBroker(path, clock).__aenter__()
    return str(caught.value)


async def test_a_file_that_is_no_database_is_refused(path, clock):
    path.write_bytes(b"hello" * 1000)
    assert await refusal(path, clock) == f"{path} is damaged or no SQLite file: move it away, or restore it from a backup"


async def test_a_damaged_file_is_refused(path, clock):
    async with SqliteBroker(path, clock) as broker:
        await broker.publish(jobs(*map(str, range(1000))))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert "is damaged" in await refusal(path, clock)


async def test_another_programs_database_is_refused(path, clock):
    write_sqlite(path, "CREATE TABLE cats (name TEXT)")
    assert "belongs to another program" in await refusal(path, clock)


async def test_a_newer_format_is_refused(path, clock):
    async with SqliteBroker(path, clock):
        pass
    write_sqlite(path, "PRAGMA user_version = 2")
    assert "written by a newer Sickbay (format 2, this one knows 1)" in await refusal(path, clock)


async def test_a_folder_in_its_place_is_refused(path, clock):
    path.mkdir()
    assert "cannot be used" in await refusal(path, clock)
