"""The file of the embedded broker: it stays small, and one that is damaged or another program's is refused."""

import asyncio
import sqlite3

import pytest

from sickbay.adapters.embedded import queue_file as store_module
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.domain.errors import SettingsError
from sickbay.domain.lane import Lane
from sickbay.ports import LANES, TO_MAIN, TO_RETRY, Message, Queue
from tests.support.broker_messages import jobs, take
from tests.support.queue_files import PATIENCE, drain


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
    assert (
        await refusal(path, clock)
        == f"{path} cannot be used: not a SQLite database, or corrupted: move it away, or restore it from a backup"
    )


async def test_a_damaged_file_is_refused(path, clock):
    async with SqliteBroker(path, clock) as broker:
        await broker.publish(jobs(*map(str, range(1000))))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert "or corrupted" in await refusal(path, clock)


async def test_another_programs_database_is_refused(path, clock):
    write_sqlite(path, "CREATE TABLE cats (name TEXT)")
    assert "is a database of another program" in await refusal(path, clock)


async def test_a_file_with_one_lane_gets_the_others_and_keeps_its_jobs(path, clock):
    """Format 1 had no lanes."""
    async with SqliteBroker(path, clock) as broker:
        await broker.publish([*jobs("a"), Message(TO_RETRY, b"b", 1)])
    for queue in (Queue.HIGH, Queue.DEMOTED, Queue.LOW):
        write_sqlite(path, f'DROP TABLE "{queue}"')
    write_sqlite(path, "DELETE FROM positions WHERE queue NOT IN ('jobs.main', 'jobs.retry', 'jobs.quarantine', 'jobs.ledger')")
    write_sqlite(path, "PRAGMA user_version = 1")
    async with asyncio.timeout(PATIENCE), SqliteBroker(path, clock) as broker:
        clock.now += 1
        await broker.publish([Message(lane, lane.encode()) for lane in LANES])
        async with broker.consume(Queue.MAIN, 10) as consumer:
            assert {delivery.body for delivery in await take(consumer, 3)} == {b"a", b"b", b"main"}
        for lane in {*LANES} - {Lane.MAIN}:
            async with broker.consume(LANES[lane], 10) as consumer:
                assert [delivery.body.decode() for delivery in await take(consumer, 1)] == [lane]


async def test_a_newer_format_is_refused(path, clock):
    async with SqliteBroker(path, clock):
        pass
    write_sqlite(path, "PRAGMA user_version = 3")
    assert "written by a newer Sickbay (format 3, this one knows 2)" in await refusal(path, clock)


async def test_a_folder_in_its_place_is_refused(path, clock):
    path.mkdir()
    assert "cannot be used" in await refusal(path, clock)
