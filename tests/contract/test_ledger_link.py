"""A PostgreSQL that is away, comes back, is slow, or is not what its URL says."""

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import asyncpg
import pytest

from sickbay.adapters.sql import listener, pool
from sickbay.adapters.sql import postgres as adapter
from sickbay.adapters.sql.errors import reason_of
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.errors import SettingsError, Unavailable
from sickbay.domain.job import JobState
from tests.support.faults.proxy import Proxy
from tests.support.ledger_events import cancelled, job, parked, queued, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]
pytestmark = pytest.mark.servers


@pytest.fixture
async def proxy(postgres, monkeypatch):
    """On the way to the database, where it lets nobody in yet; pauses are short."""
    monkeypatch.setattr(listener, "FIRST_PAUSE_S", 0.02)
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
    with pytest.raises(Unavailable, match="the ledger is unavailable"):
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
            while "connection refused" not in caplog.text:
                await asyncio.sleep(0)
        await proxy.accept()
        await up(ledger)
        await ledger.writer.apply([queued()])
    assert caplog.text.count("connection refused") == 1


async def test_a_process_has_caught_up_once_it_has_read_what_was_cancelled_before(postgres, proxy, direct, clock):
    """Not before it reaches the server for the first time."""
    await direct.writer.apply([queued(), cancelled()])
    async with open_ledger(proxy.through(postgres.url), clock, migrates=False, patient=True) as ledger:
        waiting = asyncio.create_task(ledger.duplicate_guard.caught_up())
        with pytest.raises(Unavailable):
            await ledger.reader.get("j1")
        assert not waiting.done()
        await proxy.accept()
        async with asyncio.timeout(10):
            await waiting
        assert ledger.duplicate_guard.is_cancelled(job())
        await ledger.duplicate_guard.caught_up()


async def test_a_process_that_makes_no_tables_waits_for_them(empty_postgres_url, clock, monkeypatch):
    monkeypatch.setattr(listener, "FIRST_PAUSE_S", 0.02)
    with pytest.raises(Unavailable, match="the control plane creates them"):
        async with open_ledger(empty_postgres_url, clock, migrates=False):
            pass
    async with open_ledger(empty_postgres_url, clock, migrates=False, patient=True) as waiting:
        async with open_ledger(empty_postgres_url, clock) as keeper:
            await keeper.writer.apply([queued()])
        await up(waiting)
        assert (await waiting.reader.get("j1")).state is JobState.QUEUED


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
        assert (await anext(watcher))[1].state is JobState.QUEUED
        proxy.cut()
        await down(ledger)
        await direct.writer.apply([running(), cancelled("off")])
        await proxy.accept()
        await up(ledger)
        assert (await anext(watcher))[1].state is JobState.RUNNING
        assert ledger.duplicate_guard.is_cancelled(job("off"))
        await direct.writer.apply([succeeded()])
        assert (await anext(watcher))[1].state is JobState.SUCCEEDED


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


async def test_sessions_that_the_server_ended_and_that_do_not_close_are_given_up(postgres, proxy, direct, clock, monkeypatch):
    """Its last word came, the end of the connection did not: the driver waits for that, takes no statement, and says so in its own way."""
    for name, seconds in {"STATEMENT_S": 0.5, "SLACK_S": 0.2, "CLOSE_S": 0.1}.items():
        monkeypatch.setattr(adapter, name, seconds)
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.05)
    await proxy.accept()
    proxy.keeps_open = True
    async with open_ledger(proxy.through(postgres.url), clock) as ledger:
        await ledger.reader.get("j1")
        await ledger.writer.apply([queued()])
        before = proxy.accepted
        postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port IN ({ports(proxy)})")  # noqa: S608 - numbers
        async with asyncio.timeout(20):
            while await failed(ledger.reader.get("j1")) or await failed(ledger.writer.apply([running()])):
                await asyncio.sleep(0)
            await proxy.until(lambda it: it.accepted >= before + 2)
            await up(ledger)
        async with ledger.reader.watch("j1") as watcher:
            await direct.writer.apply([succeeded()])
            assert (await anext(watcher))[1].state is JobState.SUCCEEDED


def ports(proxy):
    """The numbers by which the server knows the proxy's connections."""
    return ", ".join(str(far.get_extra_info("sockname")[1]) for _, far in proxy._pairs)


async def failed(attempt):
    """Whether it was Unavailable; any other error is raised."""
    try:
        await attempt
    except Unavailable:
        return True
    return False


async def test_a_server_that_answers_nothing_is_given_up(postgres, proxy, clock, monkeypatch):
    """No reset, no end of file, just silence: reads, writes and the link end in time, and all go on when it is over."""
    for name, seconds in {"STATEMENT_S": 0.1, "SLACK_S": 0.2, "CONNECT_S": 0.3}.items():
        monkeypatch.setattr(adapter, name, seconds)
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(listener, "ANSWER_S", 0.1)
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
    assert reason_of(caught.value) == "statement timeout"


@pytest.mark.parametrize(
    ("change", "words"),
    [({"path": "/nothing_of_this_name"}, "the database does not exist"), ({"user": "nobody:secret"}, "authentication failed")],
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
    sentence = "the tables of the ledger do not exist yet"
    assert reason_of(Unavailable(sentence)) == sentence


READ_ONLY = "SET default_transaction_read_only = on"
"""What a session to a primary that was demoted is like."""


async def demote_pool(ledger):
    """Every session in the pool refuses writes from now on; new ones would not."""
    engine = ledger.writer._store._writer
    held = [await engine.connect() for _ in range(pool.SIZE)]
    for connection in held:
        await connection.exec_driver_sql(READ_ONLY)
        await connection.commit()
        await connection.close()


@pytest.fixture
def unreported(monkeypatch):
    """A server before PostgreSQL 14 does not report by itself that it has become read-only."""
    monkeypatch.setattr(pool, "_READ_ONLY", ())


@pytest.mark.usefixtures("unreported")
async def test_sessions_to_a_demoted_primary_are_thrown_away(direct):
    """One write is refused; every further one takes a new session, and none of the old ones comes back."""
    await direct.writer.apply([queued()])
    await demote_pool(direct)
    with pytest.raises(Unavailable):
        await direct.writer.apply([running()])
    for number in range(2 * pool.SIZE):
        await direct.writer.apply([queued(f"j{number}")])
    assert (await direct.reader.get("j1")).state is JobState.QUEUED


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("step", [0, -3600])
async def test_sessions_are_thrown_away_whatever_the_wall_clock_says(direct, monkeypatch, step):
    """All in one tick, or after the clock was set back."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    direct.link._pool.renew()
    await demote_pool(direct)
    now += step
    with pytest.raises(Unavailable):
        await direct.writer.apply([queued()])
    for number in range(2 * pool.SIZE):
        await direct.writer.apply([queued(f"j{number}")])


async def test_nobody_gets_a_session_that_has_become_read_only(direct):
    """A reader is never refused; the server itself reports what it has become, so not even a write is."""
    await demote_pool(direct)
    async with AsyncExitStack() as stack:
        for _ in range(pool.SIZE):
            store = direct.reader._store
            connection = await stack.enter_async_context(store.read())
            assert (await connection.exec_driver_sql("SHOW default_transaction_read_only")).scalar_one() == "off"
    await direct.writer.apply([queued()])


async def test_a_link_to_a_demoted_primary_is_made_again(direct, monkeypatch):
    """It hears nothing of what is written elsewhere, although it answers."""
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.02)
    before = direct.link._connection
    await before.execute(READ_ONLY)
    async with asyncio.timeout(15):
        while direct.link._connection is before or not direct.link.is_up:
            await asyncio.sleep(0.01)
    await direct.writer.apply([queued()])


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://a,b/db", True),
        ("postgresql://a:5432,b:5433/db", True),
        ("postgresql:///db?host=a,b", True),
        ("postgresql://a/db", False),
        ("postgresql://a,b/db?target_session_attrs=any", False),
    ],
)
def test_of_several_servers_the_one_that_takes_writes_is_meant(url, wanted):
    """Unless the URL says otherwise."""
    assert ("target_session_attrs=read-write" in adapter.server(url).dsn) == wanted


async def trouble_is(ledger, words):
    async with asyncio.timeout(30):
        while words not in ledger.trouble if words else ledger.trouble:
            await asyncio.sleep(0.01)


async def test_trouble_says_that_the_server_is_away(postgres, proxy, clock):
    await proxy.accept()
    async with open_ledger(proxy.through(postgres.url), clock) as ledger:
        await trouble_is(ledger, "")
        proxy.cut()
        await trouble_is(ledger, "PostgreSQL is unavailable: connection refused")
        await proxy.accept()
        await trouble_is(ledger, "")


async def test_trouble_says_that_our_database_is_read_only_for_as_long_as_it_is(postgres, direct):
    """As its operator wants it: the link is up, reads go on, and nothing can be written."""
    setting = f"ALTER DATABASE {postgres.database}"
    try:
        postgres.sql(f"{setting} SET default_transaction_read_only = on")
        direct.link._connection.terminate()
        await trouble_is(direct, "PostgreSQL is read-only")
        assert direct.link.is_up
    finally:
        postgres.sql(f"{setting} RESET default_transaction_read_only")
    direct.link._connection.terminate()
    await trouble_is(direct, "")


async def test_calls_that_fail_are_trouble_and_one_that_works_ends_it(direct, monkeypatch):
    """Two in a row, with the link up all the time: the server has no connections left, for example."""
    with monkeypatch.context() as full:
        full.setattr(direct.reader._store, "_reader", _Full())
        for _ in range(2):
            assert not direct.trouble
            with pytest.raises(Unavailable):
                await direct.reader.get("j1")
    assert direct.trouble == "the ledger cannot be read: too many connections"
    await direct.reader.get("j1")
    assert not direct.trouble


class _Full:
    """An engine that gets no connection."""

    def connect(self):
        return self

    async def __aenter__(self):
        raise asyncpg.TooManyConnectionsError("sorry, too many clients already")

    async def __aexit__(self, *_):
        pass
