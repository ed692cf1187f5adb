"""A PostgreSQL that is away, comes back, is slow, or is not what its URL says."""

import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from sickbay.adapters.sql import link
from sickbay.adapters.sql import postgres as adapter
from sickbay.adapters.sql.failures import why
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.errors import SettingsError, Unavailable
from sickbay.job import State
from tests.contract.ledger_events import cancelled, job, parked, queued, running, succeeded
from tests.faults.proxy import Proxy

pytest_plugins = ["tests.contract.ledger_fixtures"]
pytestmark = pytest.mark.servers


@pytest.fixture
async def proxy(postgres, monkeypatch):
    """On the way to the database, where it lets nobody in yet; pauses are short."""
    monkeypatch.setattr(link, "FIRST_PAUSE_S", 0.02)
    async with Proxy.before(postgres.url) as made:
        made.refuse()
        yield made


@pytest.fixture
async def direct(postgres, clock):
    """Another process, whose way is never blocked."""
    async with open_ledger(postgres.url, clock) as ledger:
        yield ledger


async def up(ledger):
    async with asyncio.timeout(10):
        await ledger.link.wait_up()


async def down(ledger):
    async with asyncio.timeout(10):
        while ledger.link.is_up:
            await asyncio.sleep(0)


async def test_a_server_that_is_away_at_the_start_is_unavailable(postgres, proxy, clock):
    with pytest.raises(Unavailable, match="the ledger does not answer"):
        async with open_ledger(proxy.through(postgres.url), clock):
            pass


async def test_a_patient_ledger_waits_for_its_server(postgres, proxy, clock, caplog):
    """The service starts, says why it is not ready, answers Unavailable, and becomes ready by itself."""
    async with open_ledger(proxy.through(postgres.url), clock, patient=True) as ledger:
        assert not ledger.link.is_up
        with pytest.raises(Unavailable):
            await ledger.reader.get("j1")
        with pytest.raises(Unavailable):
            await ledger.writer.apply([queued()])
        with pytest.raises(Unavailable):
            async with ledger.reader.watch("j1"):
                pass
        async with asyncio.timeout(10):
            while "nobody listens there" not in caplog.text:
                await asyncio.sleep(0)
        await proxy.accept()
        await up(ledger)
        await ledger.writer.apply([queued()])
    assert caplog.text.count("nobody listens") == 1


async def test_a_process_that_makes_no_tables_waits_for_them(empty_postgres_url, clock, monkeypatch):
    monkeypatch.setattr(link, "FIRST_PAUSE_S", 0.02)
    with pytest.raises(Unavailable, match="the control plane makes them"):
        async with open_ledger(empty_postgres_url, clock, migrates=False):
            pass
    async with open_ledger(empty_postgres_url, clock, migrates=False, patient=True) as waiting:
        async with open_ledger(empty_postgres_url, clock) as keeper:
            await keeper.writer.apply([queued()])
        await up(waiting)
        assert (await waiting.reader.get("j1")).state is State.QUEUED


async def test_a_newer_database_stops_even_a_patient_one(empty_postgres_url, postgres, clock):
    schema = empty_postgres_url.rpartition("%3D")[2]
    async with open_ledger(empty_postgres_url, clock):
        pass
    postgres.sql(f"UPDATE {schema}.alembic_version SET version_num = '9999'")  # noqa: S608 - written here
    async with open_ledger(empty_postgres_url, clock, patient=True) as ledger:
        with pytest.raises(SettingsError, match="newer"):
            await up(ledger)
        assert not ledger.link.is_up


async def test_watchers_outlive_a_lost_connection(postgres, proxy, direct, clock):
    """What was written meanwhile is told afterwards; what was called off is known."""
    await proxy.accept()
    async with open_ledger(proxy.through(postgres.url), clock) as ledger, ledger.reader.watch("j1") as watcher:
        await direct.writer.apply([queued()])
        assert (await anext(watcher))[1].state is State.QUEUED
        proxy.cut()
        await down(ledger)
        await direct.writer.apply([running(), cancelled("off")])
        await proxy.accept()
        await up(ledger)
        assert (await anext(watcher))[1].state is State.RUNNING
        assert ledger.fence.is_cancelled(job("off"))
        await direct.writer.apply([succeeded()])
        assert (await anext(watcher))[1].state is State.SUCCEEDED


async def test_a_watcher_that_cannot_be_told_all_is_cut_off(postgres, proxy, direct, clock):
    await proxy.accept()
    async with open_ledger(proxy.through(postgres.url), clock) as ledger, ledger.reader.watch("j1") as watcher:
        await direct.writer.apply([queued()])
        await anext(watcher)
        proxy.cut()
        await down(ledger)
        await direct.writer.apply([succeeded()])
        await direct.writer.apply([parked(generation=1)])
        await proxy.accept()
        with pytest.raises(Unavailable, match="watch again"):
            await anext(watcher)


async def test_a_server_that_answers_nothing_is_given_up(postgres, proxy, clock, monkeypatch):
    """No reset, no end of file, just silence: reads, writes and the link end in time, and all go on when it is over."""
    for name, seconds in {"STATEMENT_S": 0.1, "SLACK_S": 0.2, "CONNECT_S": 0.3}.items():
        monkeypatch.setattr(adapter, name, seconds)
    monkeypatch.setattr(link, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(link, "ANSWER_S", 0.1)
    await proxy.accept()
    async with open_ledger(proxy.through(postgres.url), clock) as ledger:
        await ledger.reader.get("j1")
        proxy.blackhole()
        with pytest.raises(Unavailable):
            await ledger.reader.get("j1")
        with pytest.raises(Unavailable):
            await ledger.writer.apply([queued()])
        await down(ledger)
        proxy.cut()
        proxy.heal()
        await proxy.accept()
        await up(ledger)
        await ledger.writer.apply([queued()])


async def test_a_statement_that_takes_too_long_is_broken_off_by_the_server(postgres, direct, clock, monkeypatch):
    monkeypatch.setattr(adapter, "STATEMENT_S", 0.2)
    await direct.writer.apply([queued()])
    async with open_ledger(postgres.url, clock) as hasty, direct.writer._store.write() as holding:
        await direct.writer._store.lock(holding, ["j1"])
        with pytest.raises(Unavailable) as caught:
            await hasty.writer.apply([running()])
    assert why(caught.value) == "a statement took too long"


@pytest.mark.parametrize(
    ("change", "words"),
    [({"path": "/nothing_of_this_name"}, "no such database"), ({"user": "nobody:secret"}, "refuses our user")],
)
async def test_why_the_server_refuses_is_logged_without_secrets(postgres, clock, caplog, change, words):
    url = urlsplit(postgres.url)
    server = url.netloc.rpartition("@")[2]
    path = change.get("path", url.path)
    url = url._replace(netloc=f"{change['user']}@{server}" if "user" in change else url.netloc, path=path).geturl()
    caplog.set_level(logging.INFO)
    async with open_ledger(url, clock, patient=True):
        async with asyncio.timeout(10):
            while not caplog.records:
                await asyncio.sleep(0)
    assert words in caplog.text
    assert "secret" not in caplog.text


def test_a_reason_of_our_own_is_logged_in_its_own_words():
    sentence = "the tables of the ledger are not there yet"
    assert why(Unavailable(sentence)) == sentence
