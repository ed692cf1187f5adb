"""The ledgers that the contract suites run against, and a clock that moves by hand."""

import os
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from sickbay.adapters.sql.ledger import open_ledger
from tests.contract.ledger_events import START

POSTGRES = os.environ.get("SICKBAY_TEST_POSTGRES_URL", "")
"""A PostgreSQL where we may create databases, as `postgresql+asyncpg://user@host/database`; without it that back end is left out."""

BACKENDS = ["sqlite-file", "sqlite-memory", *(["postgresql"] if POSTGRES else [])]


class Clock:
    """Milliseconds since the epoch, moved by the test alone."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def administer(statement):
    engine = create_async_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@pytest.fixture(params=BACKENDS)
async def url(request, tmp_path):
    if request.param != "postgresql":
        yield f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite-file" else "sqlite://"
        return
    name = f"sickbay_{uuid.uuid4().hex}"
    await administer(f"CREATE DATABASE {name}")
    yield f"{POSTGRES.rpartition('/')[0]}/{name}"
    await administer(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def ledger(url, clock):
    async with open_ledger(url, clock) as opened:
        yield opened
