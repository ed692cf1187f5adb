"""Opening, migrating, breaking off and closing a ledger."""

import asyncio
import contextlib
import re
import sqlite3

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert

from sickbay.adapters.sql import migrate
from sickbay.adapters.sql.engines import parse_url, writing_engine
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.pool import Pool
from sickbay.adapters.sql.schema import HEAD, jobs, metadata
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import SettingsError, Unavailable
from sickbay.domain.job import JobState
from tests.support.ledger_events import parked, queued, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

PLACE = {"tenant": "default", "state": "PARKED", "generation": 0, "attempt": 0, "rank": 5}
OLD = PLACE | {"submitted_at": 1, "updated_at": 2, "run": "", "code": "X", "set_aside_at": 2, "payload": b"{}"}
"""A row as the first version wrote it."""
TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01 acme=1"


async def test_a_file_keeps_everything(tmp_path, clock):
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with open_ledger(url, clock) as ledger:
        await ledger.writer.apply([parked()])
        before = await ledger.reader.get("j1")
    async with open_ledger(url, clock) as ledger:
        assert await ledger.reader.get("j1") == before


async def test_two_ledgers_in_memory_are_two(clock):
    async with open_ledger("sqlite://", clock) as first, open_ledger("sqlite:///:memory:", clock) as second:
        await first.writer.apply([queued()])
        assert await second.reader.get("j1") is None


async def test_two_programs_share_a_file(tmp_path, clock):
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with open_ledger(url, clock) as first, open_ledger(url, clock) as second:
        writes = [ledger.writer.apply([succeeded(f"j{number}")]) for number in range(20) for ledger in (first, second)]
        await asyncio.gather(*writes)
        assert (await second.writer.counts())[JobState.SUCCEEDED] == 20
        assert await first.writer.duplicates() == 0


def an_engine(url):
    """That of whoever writes, on either database."""
    where = parse_url(url)
    return writing_engine(where, Pool(where.server) if where.server else None)


async def test_commits_survive_a_power_cut(tmp_path, clock):
    """The keeper acknowledges events once they are applied, so SQLite must reach the disk at each commit."""
    engine = writing_engine(parse_url(f"sqlite:///{tmp_path}/ledger.db"), None)
    async with engine.connect() as connection:
        found = [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    await engine.dispose()
    assert found == ["wal", 2]


async def test_the_migrations_make_the_schema(empty_url):
    """The tables that the migrations build are those that the queries are written for, and HEAD is the newest of them."""
    engine = an_engine(empty_url)
    async with engine.begin() as connection:
        await connection.run_sync(migrate.upgrade)
        differences = await connection.run_sync(lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))
        assert await connection.run_sync(migrate.revision) == HEAD
    await engine.dispose()
    assert differences == []
    config = Config()
    config.set_main_option("script_location", "sickbay.adapters.sql:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


async def test_an_older_database_is_upgraded_with_what_is_in_it(empty_url, tmp_path, clock):
    """A job that was set aside before there were traces is released all the same, and later ones keep theirs."""
    if empty_url == "sqlite://":
        empty_url = f"sqlite:///{tmp_path}/ledger.db"
    engine = an_engine(empty_url)
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade_to, "0001")
        for name in ("email", "sms"):
            await connection.execute(insert(jobs).values(OLD | {"job_id": name, "job_type": name}))
    await engine.dispose()
    async with open_ledger(empty_url, clock) as ledger:
        await ledger.writer.apply([parked("later", trace=TRACE)])
        claims = await ledger.quarantine.lease_parked(BreakerKey("email"), 10)
        assert {claim.job.job_id: (claim.job.trace, claim.job.payload_json) for claim in claims} == {
            "email": ("", b"{}"),
            "later": (TRACE, b'{"to":"a"}'),
        }
        assert [record.job.trace for record in await ledger.quarantine.mark_released(claims)] == ["", ""]
        assert await ledger.quarantine.get_quarantined("sms") is not None


def _upgrade_to(connection, revision):
    config = Config()
    config.set_main_option("script_location", "sickbay.adapters.sql:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def test_a_current_database_is_opened_without_alembic(tmp_path, clock, monkeypatch):
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with open_ledger(url, clock):
        pass
    monkeypatch.setattr(migrate, "upgrade", None)
    async with open_ledger(url, clock) as ledger:
        assert await ledger.writer.duplicates() == 0


async def test_a_newer_database_is_refused(tmp_path, clock):
    url = f"sqlite:///{tmp_path}/ledger.db"
    async with open_ledger(url, clock):
        pass
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(SettingsError, match="newer"):
        async with open_ledger(url, clock):
            pass


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "sqlite:////no/such/folder/ledger.db"])
async def test_a_url_that_cannot_be_meant_is_a_settings_error(url, clock):
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        async with open_ledger(url, clock):
            pass


async def test_a_password_is_not_shown(clock):
    with pytest.raises(SettingsError) as caught:
        async with open_ledger("mysql://me:secret@host/db", clock):
            pass
    assert "secret" not in str(caught.value)


async def test_a_file_that_is_no_database_is_told_with_what_to_do(tmp_path, clock):
    (tmp_path / "ledger.db").write_bytes(b"something else altogether, and long enough" * 100)
    words = f"{tmp_path}/ledger.db cannot be used: not a SQLite database, or corrupted: move it away, or restore it from a backup"
    with pytest.raises(SettingsError, match=re.escape(words)):
        async with open_ledger(f"sqlite:///{tmp_path}/ledger.db", clock):
            pass


async def test_a_damaged_ledger_is_told_at_the_start_and_while_it_is_in_use(tmp_path, clock):
    """Not "try again later": it does not pass."""
    path = tmp_path / "ledger.db"
    async with open_ledger(path, clock) as ledger:
        await ledger.writer.apply([queued(f"j{number}") for number in range(300)])
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(SettingsError, match=re.escape(f"{path} cannot be used: not a SQLite database, or corrupted")):
        async with open_ledger(path, clock):
            pass
    path.write_bytes(content)
    with contextlib.suppress(Unavailable):
        async with open_ledger(path, clock) as ledger:
            path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
            path.with_name("ledger.db-wal").write_bytes(b"")
            with pytest.raises(Unavailable, match="the ledger's file cannot be used: not a SQLite database, or corrupted"):
                await ledger.writer.apply([queued(f"k{number}") for number in range(300)])


async def test_a_newer_ledger_names_its_file(tmp_path, clock):
    """And not a variable that nobody has set."""
    path = tmp_path / "ledger.db"
    async with open_ledger(path, clock):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    words = f"the ledger {path} has revision '9999', created by a newer Sickbay: update this program, or choose another data folder"
    with pytest.raises(SettingsError, match=re.escape(words)):
        async with open_ledger(path, clock):
            pass


async def test_a_ledger_on_a_full_disk_says_so(tmp_path, clock):
    """For as long as it is full."""
    async with open_ledger(tmp_path / "ledger.db", clock) as ledger:
        store = ledger.writer._store
        async with store._writer.connect() as connection:
            await connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(Unavailable, match="the ledger's file cannot be used: disk full or quota exceeded"):
            await ledger.writer.apply([queued(f"j{number}") for number in range(300)])
        async with store._writer.connect() as connection:
            await connection.exec_driver_sql("PRAGMA max_page_count = 100000")
        await ledger.writer.apply([queued("j1")])


async def test_a_closed_ledger_is_unavailable(url, clock):
    async with open_ledger(url, clock) as ledger:
        pass
    with pytest.raises(Unavailable, match="closed"):
        await ledger.reader.get("j1")
    with pytest.raises(Unavailable, match="closed"):
        await ledger.writer.apply([queued()])


async def test_a_lost_table_is_unavailable_in_our_words(tmp_path, clock):
    async with open_ledger(f"sqlite:///{tmp_path}/ledger.db", clock) as ledger:
        connection = sqlite3.connect(tmp_path / "ledger.db")
        connection.execute("DROP TABLE jobs")
        connection.close()
        with pytest.raises(Unavailable, match=r"^the ledger is unavailable; nothing is lost, try again later$"):
            await ledger.writer.apply([queued()])
        with pytest.raises(Unavailable, match=r"^the ledger is unavailable"):
            await ledger.reader.get("j1")


async def test_a_write_that_is_broken_off_harms_nobody(ledger):
    """Its caller may be cancelled anywhere; nothing of it may be half there, and the next ones must get through."""
    batch = [queued(f"j{number}") for number in range(50)]
    for turns in range(12):
        task = asyncio.create_task(ledger.writer.apply([*batch, parked(f"p{turns}")]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        reading = asyncio.create_task(ledger.reader.get("j1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await ledger.writer.apply([succeeded()])
    counts = await ledger.writer.counts()
    assert counts[JobState.SUCCEEDED] == 1
    assert counts[JobState.QUEUED] in {0, 49}
