"""The brokers that the contract suite runs against, and what each of them cannot do."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.ports import Broker
from tests.support.rabbitmq_server import empty, vhost


@dataclass(frozen=True)
class Features:
    """What the suite may ask of a back end; a test of something else skips."""

    is_durable: bool = True
    """Messages are there after the last session has closed."""
    mixes_delays: bool = True
    """A short delay overtakes a longer one in the same queue."""
    depth_lag: float = 0
    """Seconds between two looks at a depth that is not yet as expected; 0 where depths are exact at once."""


@dataclass(frozen=True)
class Backend:
    """One broker's storage; each `open` is a session on it."""

    open: Callable[[], AbstractAsyncContextManager[Broker]]
    features: Features = field(default_factory=Features)


def now() -> int:
    return time.time_ns() // 1_000_000


def sqlite_file(folder) -> Backend:
    return Backend(lambda: SqliteBroker(folder / "queue.db", now))


def sqlite_normal(folder) -> Backend:
    return Backend(lambda: SqliteBroker(folder / "queue.db", now, "NORMAL"))


def sqlite_memory(_folder) -> Backend:
    return Backend(lambda: SqliteBroker(":memory:", now), Features(is_durable=False))


def rabbitmq(_folder) -> Backend:
    is_new = True

    @asynccontextmanager
    async def opening():
        nonlocal is_new
        if is_new:
            await empty(vhost())
            is_new = False
        async with RabbitBroker(vhost(), now) as broker:
            await broker.ready()
            yield broker

    return Backend(opening, Features(mixes_delays=False, depth_lag=0.02))


BACKENDS = {
    "sqlite-file": sqlite_file,
    "sqlite-file-normal": sqlite_normal,
    "sqlite-memory": sqlite_memory,
    "rabbitmq": pytest.param(rabbitmq, marks=pytest.mark.servers),
}
