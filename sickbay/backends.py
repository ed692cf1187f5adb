"""Picks the back ends that the settings name, and opens them. The only module that imports adapters."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Final

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.datafolder import open_data_folder
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.adapters.rabbitmq.upkeep import apply as apply_topology
from sickbay.adapters.rabbitmq.upkeep import check as check_topology
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.fence import RedisFence
from sickbay.adapters.redis.keys import RedisIdempotencyKeys
from sickbay.adapters.sql.ledger import Ledger, open_ledger
from sickbay.errors import SettingsError
from sickbay.missing import NoKeys, NoReader
from sickbay.ports import Breakers, Broker, Clock, Fence, IdempotencyKeys, JobReader, LedgerWriter, Wards
from sickbay.settings import Settings
from sickbay.vitals import Vitals

__all__ = [
    "RABBITMQ_URL",
    "Backends",
    "ControlPlaneParts",
    "JobApiParts",
    "WorkerParts",
    "apply_topology",
    "check_topology",
    "open_control_plane",
    "open_jobapi",
    "open_up",
    "open_worker",
    "wall_clock",
]

RABBITMQ_URL: Final = "amqp://guest:guest@localhost:5672"
REDIS_URL: Final = "redis://localhost:6379"


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every service needs. `ready` returns once the servers behind it have answered; `system` is how traces call the broker."""

    broker: Broker
    system: str = "sickbay"
    clock: Clock
    ready: Callable[[], Awaitable[None]]
    vitals: Vitals = field(default_factory=Vitals)


@dataclass(frozen=True, kw_only=True)
class JobApiParts(Common):
    """What the Job API needs."""

    reader: JobReader
    keys: IdempotencyKeys


@dataclass(frozen=True, kw_only=True)
class WorkerParts(Common):
    """What a worker needs."""

    breakers: Breakers
    fence: Fence


@dataclass(frozen=True, kw_only=True)
class ControlPlaneParts(Common):
    """What the control plane needs."""

    breakers: Breakers
    writer: LedgerWriter
    wards: Wards


@dataclass(frozen=True, kw_only=True)
class Backends(JobApiParts, WorkerParts, ControlPlaneParts):
    """What all three need in one process."""


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_up(settings: Settings, folder: Path | None) -> AsyncIterator[Backends]:
    """What `sickbay up` runs on: the servers that RABBITMQ_URL, REDIS_URL and DATABASE_URL name, embedded parts for the others.

    Embedded parts are durable in `folder`, or in memory if that is None. SettingsError if the folder cannot be used.
    """
    rabbitmq, redis, database = settings.url("rabbitmq_url"), settings.url("redis_url"), settings.url("database_url")
    async with AsyncExitStack() as stack:
        queues: Path | str = ":memory:"
        if folder is not None and (rabbitmq is None or database is None):
            data = stack.enter_context(open_data_folder(folder))
            queues, database = data.queue_db, database or f"sqlite:///{data.ledger_db}"
        ledger = await stack.enter_async_context(open_ledger(database or "sqlite://", wall_clock, patient=True))
        broker = await _broker(stack, settings, rabbitmq, queues)
        breakers = await _breakers(stack, settings, redis)
        yield Backends(
            broker=broker,
            system=_system(broker),
            breakers=breakers,
            reader=ledger.reader,
            writer=ledger.writer,
            wards=ledger.wards,
            fence=ledger.fence,
            keys=ledger.keys,
            clock=wall_clock,
            ready=_all_ready(broker, ledger),
            vitals=_vitals(broker, ledger, breakers),
        )


@asynccontextmanager
async def open_jobapi(settings: Settings) -> AsyncIterator[JobApiParts]:
    """RabbitMQ; with DATABASE_URL also the ledger to read from, and idempotency keys there or, with REDIS_URL, in Redis."""
    redis = settings.url("redis_url")
    async with AsyncExitStack() as stack:
        ledger = await _shared_ledger(stack, settings)
        broker = await _broker(stack, settings, settings.url("rabbitmq_url") or RABBITMQ_URL)
        keys: IdempotencyKeys = ledger.keys if ledger else NoKeys()
        if redis is not None:
            keys = await stack.enter_async_context(RedisIdempotencyKeys(redis))
        reader: JobReader = ledger.reader if ledger else NoReader()
        yield JobApiParts(
            broker=broker,
            system=_system(broker),
            clock=wall_clock,
            ready=_all_ready(broker, ledger),
            vitals=_vitals(broker, ledger),
            reader=reader,
            keys=keys,
        )


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[WorkerParts]:
    """RabbitMQ and Redis; with DATABASE_URL also the ledger, to tell copies that have a later one."""
    redis = settings.url("redis_url") or REDIS_URL
    async with AsyncExitStack() as stack:
        ledger = await _shared_ledger(stack, settings)
        broker = await _broker(stack, settings, settings.url("rabbitmq_url") or RABBITMQ_URL)
        fence: Fence = ledger.fence if ledger else await stack.enter_async_context(RedisFence(redis))
        breakers = await _breakers(stack, settings, redis)
        yield WorkerParts(
            broker=broker,
            system=_system(broker),
            clock=wall_clock,
            ready=_all_ready(broker, ledger),
            vitals=_vitals(broker, ledger, breakers),
            breakers=breakers,
            fence=fence,
        )


@asynccontextmanager
async def open_control_plane(settings: Settings) -> AsyncIterator[ControlPlaneParts]:
    """RabbitMQ, Redis and the ledger: in PostgreSQL with DATABASE_URL, else in a file in DATA_DIR."""
    async with AsyncExitStack() as stack:
        database = settings.url("database_url")
        if database is None:
            data = stack.enter_context(open_data_folder(Path(settings.data_dir)))
            database = f"sqlite:///{data.ledger_db}"
        ledger = await stack.enter_async_context(open_ledger(database, wall_clock, patient=True))
        broker = await _broker(stack, settings, settings.url("rabbitmq_url") or RABBITMQ_URL)
        breakers = await _breakers(stack, settings, settings.url("redis_url") or REDIS_URL)
        yield ControlPlaneParts(
            broker=broker,
            system=_system(broker),
            clock=wall_clock,
            ready=_all_ready(broker, ledger),
            vitals=_vitals(broker, ledger, breakers),
            breakers=breakers,
            writer=ledger.writer,
            wards=ledger.wards,
        )


async def _broker(
    stack: AsyncExitStack, settings: Settings, url: str | None, queues: Path | str = ":memory:"
) -> SqliteBroker | RabbitBroker:
    if url is None:
        return await stack.enter_async_context(SqliteBroker(queues, wall_clock, settings.sqlite_synchronous))
    return await stack.enter_async_context(RabbitBroker(url, wall_clock, name=settings.worker_name))


async def _breakers(stack: AsyncExitStack, settings: Settings, url: str | None) -> EmbeddedBreakers | RedisBreakers:
    if url is None:
        return EmbeddedBreakers(settings.breaker_config, wall_clock, SystemRandom(), settings.worker_name)
    return await stack.enter_async_context(RedisBreakers(url, settings.breaker_config, worker=settings.worker_name))


async def _shared_ledger(stack: AsyncExitStack, settings: Settings) -> Ledger | None:
    """The ledger that the control plane keeps, for a process that reads it; None without DATABASE_URL."""
    url = settings.url("database_url")
    if url is None:
        return None
    if url.startswith("sqlite"):
        raise SettingsError("DATABASE_URL must name a PostgreSQL database here: processes cannot share a SQLite ledger")
    return await stack.enter_async_context(open_ledger(url, wall_clock, migrates=False, patient=True))


def _system(broker: SqliteBroker | RabbitBroker) -> str:
    return "rabbitmq" if isinstance(broker, RabbitBroker) else "sickbay"


def _all_ready(broker: SqliteBroker | RabbitBroker, ledger: Ledger | None) -> Callable[[], Awaitable[None]]:
    async def ready() -> None:
        if isinstance(broker, RabbitBroker):
            await broker.ready()
        if ledger is not None:
            await ledger.link.wait_up()

    return ready


def _vitals(broker: SqliteBroker | RabbitBroker, ledger: Ledger | None, breakers: EmbeddedBreakers | RedisBreakers | None = None) -> Vitals:
    up: dict[str, Callable[[], bool]] = {"broker": lambda: broker.is_ready if isinstance(broker, RabbitBroker) else broker.is_open}
    if breakers is not None:
        up["breakers"] = lambda: not (isinstance(breakers, RedisBreakers) and breakers.is_degraded)
    if ledger is not None:
        up["ledger"] = lambda: ledger.link.is_up
    return Vitals(
        up=up,
        is_blocked=lambda: isinstance(broker, RabbitBroker) and broker.is_blocked,
        stale=lambda: breakers.stale if breakers is not None else 0,
    )
