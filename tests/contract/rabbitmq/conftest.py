"""An empty virtual host for each test, and the broker on it."""

import pytest

from sickbay.adapters.rabbitmq.broker import RabbitBroker
from tests.support.broker_backends import now
from tests.support.rabbitmq_server import fresh_vhost


@pytest.fixture
async def url():
    return await fresh_vhost()


@pytest.fixture
async def broker(url):
    async with RabbitBroker(url, now) as opened:
        await opened.ready()
        yield opened
