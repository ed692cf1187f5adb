"""A ledger that accepts no writes is noticed although nobody writes, and so is the end of it."""

import asyncio
import contextlib
import itertools
import os
import sqlite3
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripts.servers import PostgreSQL
from sickbay.adapters.sql import write_check as module
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.write_check import WriteCheck
from sickbay.domain.errors import Unavailable
from tests.support.ledger_events import queued
from tests.support.postgres_server import FULL_DISK, ROOM_AGAIN

pytest_plugins = ["tests.support.ledger_fixtures"]

REFUSES = """
    CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''{sqlstate}''; END';
    CREATE TRIGGER refuses BEFORE INSERT ON write_check EXECUTE FUNCTION refuses()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "TRY_S", 0.01)
    monkeypatch.setattr(module, "TRY_AGAIN_S", 0.01)


async def eventually(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.servers
async def test_a_full_disk_shows_without_any_event(postgres, clock):
    async with open_ledger(postgres.url, clock) as ledger:
        for statement in FULL_DISK:
            postgres.sql(statement)
        try:
            await eventually(lambda: ledger.trouble == "the ledger cannot be written: disk full")
            assert await ledger.reader.get("j1") is None, "reading continues"
        finally:
            postgres.sql(ROOM_AGAIN)
        await eventually(lambda: not ledger.trouble)
    (row,) = postgres.sql("SELECT count(*) FROM write_check")
    assert row["count"] == 1


@pytest.mark.servers
@pytest.mark.parametrize(
    ("sqlstate", "why"), [("53200", "out of memory"), ("58030", "I/O error, or disk full"), ("42501", "permission denied")]
)
async def test_other_reasons_show_in_words_of_ours(postgres, clock, sqlstate, why):
    async with open_ledger(postgres.url, clock) as ledger:
        postgres.sql(REFUSES.format(sqlstate=sqlstate))
        try:
            await eventually(lambda: ledger.trouble.startswith(f"the ledger cannot be written: {why}"))
        finally:
            postgres.sql("DROP FUNCTION refuses CASCADE")
        await eventually(lambda: not ledger.trouble)


@contextlib.contextmanager
def own_disk(size):
    """A file system of `size` bytes that a package's user can reach."""
    with TemporaryDirectory(prefix="sickbay-disk-") as folder:
        words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root can mount a small disk")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def fill(file):
    with file.open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while rest.write(b"x" * 4096):
            pass


@pytest.mark.servers
async def test_a_disk_that_is_really_full_shows(clock):
    """PostgreSQL still accepts what finds room in its files, so an update of one row would prove nothing."""
    with own_disk(100_000_000) as disk, PostgreSQL(disk / "server") as server:
        async with open_ledger(server.url, clock) as ledger:
            await ledger.write_check.check()
            fill(disk / "rest")
            await eventually(lambda: ledger.trouble == "the ledger cannot be written: disk full")
            async with ledger.store.write() as connection:
                await connection.exec_driver_sql("UPDATE write_check SET at = 1")
            (disk / "rest").unlink()
            await eventually(lambda: not ledger.trouble)


async def test_the_file_of_a_ledger_is_tested_too(tmp_path, clock):
    file = tmp_path / "ledger.db"
    async with open_ledger(file, clock) as ledger:
        async with ledger.store._writer.connect() as connection:
            await connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await eventually(lambda: ledger.trouble == "the ledger cannot be written: locked by another program")
            other.execute("ROLLBACK")
            await eventually(lambda: not ledger.trouble)


@pytest.mark.servers
async def test_whoever_does_not_own_the_tables_writes_nothing(postgres, clock, monkeypatch):
    tried = []
    monkeypatch.setattr(WriteCheck, "run", lambda _: tried.append(1) or asyncio.sleep(0))
    async with open_ledger(postgres.url, clock, migrates=False) as ledger:
        await ledger.reader.get("j1")
    assert not tried
    async with open_ledger(postgres.url, clock):
        await eventually(lambda: tried)


@pytest.mark.parametrize(("is_up", "writes"), [(True, 1), (False, 0)])
async def test_nothing_is_tried_while_others_write_or_without_a_connection(clock, monkeypatch, is_up, writes):
    async with open_ledger("sqlite://", clock) as ledger:
        check = WriteCheck(ledger.store, lambda: is_up)
        rounds, tried = itertools.count(), []

        def jitter():
            """Called once in each round, when the wait begins."""
            ledger.store.written += writes
            return 0.0 * next(rounds)

        monkeypatch.setattr(module, "jitter", jitter)
        monkeypatch.setattr(check, "check", lambda: tried.append(1) or asyncio.sleep(0))
        running = asyncio.create_task(check.run())
        await eventually(lambda: next(rounds) > 50)
        assert not tried
        is_up, writes = True, 0
        await eventually(lambda: tried)
        running.cancel()


@pytest.mark.servers
async def test_what_failed_while_the_disk_was_full_is_forgotten_with_it(postgres, clock):
    """Nobody repeats it, so nothing else would end its trouble before a minute has passed."""
    async with open_ledger(postgres.url, clock) as ledger:
        for statement in FULL_DISK:
            postgres.sql(statement)
        try:
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await ledger.writer.apply([queued()])
            assert ledger.trouble == "the ledger cannot be written: disk full"
            await eventually(lambda: ledger.write_check.trouble)
        finally:
            postgres.sql(ROOM_AGAIN)
        await eventually(lambda: not ledger.trouble)
