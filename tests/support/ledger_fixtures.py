"""The ledgers that the contract suites run against, and a clock that moves by hand."""

import asyncio
import threading
import uuid
from concurrent.futures import Future
from urllib.parse import urlsplit

import asyncpg
import pytest

from sickbay.adapters.sql.ledger import open_ledger
from sickbay.adapters.sql.schema import metadata
from tests.support.clock import ManualClock
from tests.support.postgres_server import POSTGRES

BACKENDS = ["sqlite-file", "sqlite-memory", pytest.param("postgresql", marks=pytest.mark.servers)]


@pytest.fixture
def clock():
    return ManualClock()


class Postgres:
    """A database of our own for one run of the suite, migrated once, and an administrator's connection to it in a thread of its own."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.database = f"sickbay_{uuid.uuid4().hex}"
        self.url = urlsplit(POSTGRES)._replace(scheme="postgresql", path=f"/{self.database}").geturl()
        self._server = self._connected(POSTGRES.replace("+asyncpg", ""))
        self._do(self._server.execute(f"CREATE DATABASE {self.database}"))
        self._do(self._migrate())
        self._own = self._connected(self.url)

    def _connected(self, url):
        try:
            return self._do(asyncpg.connect(url, timeout=5))
        except (OSError, asyncpg.PostgresError) as error:
            pytest.fail(f"these tests need a PostgreSQL; name it in SICKBAY_TEST_POSTGRES_URL ({error})")

    def _do(self, coroutine):
        future: Future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(30)

    async def _migrate(self):
        async with open_ledger(self.url, ManualClock()):
            pass

    def sql(self, statement, *values):
        """Rows of a statement, or nothing, done by the administrator."""
        if values or statement.startswith("SELECT"):
            return self._do(self._own.fetch(statement, *values))
        return self._do(self._own.execute(statement))

    def clean(self):
        for table in metadata.tables.values():
            self.sql(str(table.delete()))

    def close(self):
        self._do(self._own.close())
        self._do(self._server.execute(f"DROP DATABASE {self.database} WITH (FORCE)"))
        self._do(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def postgres_of_session():
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_of_session):
    """The database, empty again after the test."""
    yield postgres_of_session
    postgres_of_session.clean()


@pytest.fixture(params=BACKENDS)
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").url
    return f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite-file" else "sqlite://"


@pytest.fixture
def empty_postgres_url(postgres):
    """A schema without tables, of its own."""
    schema = f"empty_{uuid.uuid4().hex}"
    postgres.sql(f"CREATE SCHEMA {schema}")
    yield f"{postgres.url}{'&' if '?' in postgres.url else '?'}options=-csearch_path%3D{schema}"
    postgres.sql(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=BACKENDS)
def empty_url(request, tmp_path):
    """A ledger that has no tables yet."""
    if request.param == "postgresql":
        return request.getfixturevalue("empty_postgres_url")
    return f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite-file" else "sqlite://"


@pytest.fixture
async def ledger(url, clock):
    async with open_ledger(url, clock) as opened:
        yield opened
