"""A file for each test, and the embedded broker in it."""

import asyncio

import pytest

from sickbay.adapters.embedded.broker import SqliteBroker
from tests.support.clock import ManualClock
from tests.support.queue_files import PATIENCE


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
