"""Opens the backends that the settings name. With `single_backends.py` and `backend_health.py` the only modules that import adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from sickbay.adapters.embedded.datafolder import DataFolder, open_data_folder
from sickbay.adapters.rabbitmq.topology_sync import apply as apply_topology
from sickbay.adapters.rabbitmq.topology_sync import check as check_topology
from sickbay.adapters.redis.breaker_reader import RedisBreakerReader
from sickbay.adapters.redis.duplicate_guard import RedisDuplicateGuard
from sickbay.adapters.redis.keys import RedisIdempotencyKeys
from sickbay.adapters.unconfigured import UnconfiguredHolds, UnconfiguredJobReader, UnconfiguredKeys
from sickbay.domain.errors import SettingsError
from sickbay.ports import Clock, DuplicateGuard, IdempotencyKeys, JobReader
from sickbay.runtime.backend_health import all_ready, backend_status, system_of
from sickbay.runtime.parts import Backends, ControlPlaneParts, JobApiParts, WorkerParts
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.runtime.single_backends import (
    open_breakers,
    open_broker,
    open_code_schedules,
    open_job_types,
    open_own_ledger,
    open_rate_limiter,
    open_run_rates,
    open_shared_ledger,
    open_workers,
    webhook_of,
)
from sickbay.system.clock import SteadyClock, uptime, wall_clock

__all__ = [
    "RABBITMQ_URL",
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


@asynccontextmanager
async def open_up(settings: Settings, folder: Path | None, *, clock: Clock = wall_clock, steady: Clock = uptime) -> AsyncIterator[Backends]:
    """The backends of `sickbay up`: the servers that RABBITMQ_URL, REDIS_URL and DATABASE_URL name, embedded ones for the others.

    Embedded backends are durable in `folder`, or in memory if that is None. SettingsError if the folder cannot be used. They tell the
    time by `clock`, and measure waits with `steady`, which is monotonic; both in ms.
    """
    rabbitmq, redis, database = settings.url("rabbitmq_url"), settings.url("redis_url"), settings.url("database_url")
    async with AsyncExitStack() as stack:
        queues: Path | str = ":memory:"
        file: Path | None = None
        data: DataFolder | None = None
        if folder is not None and None in {rabbitmq, redis, database}:
            data = stack.enter_context(open_data_folder(folder))
            queues, file = data.queue_db, data.ledger_db
        ledger = await open_own_ledger(stack, settings, database or file or "sqlite://", clock)
        if settings.pool and rabbitmq is None:
            raise SettingsError("POOL needs RABBITMQ_URL: with embedded queues there is one worker, which handles everything")
        broker = await open_broker(stack, settings, rabbitmq, queues, pools=_pools(settings), clock=SteadyClock(clock, steady))
        policies = await _policies(stack, settings)
        breakers_db = data.breakers_db if data is not None else None
        breakers = await open_breakers(stack, settings, policies, redis, breakers_db, clock=clock, steady=steady)
        workers = await open_workers(stack, redis)
        yield Backends(
            broker=broker,
            system=system_of(broker),
            breakers=breakers,
            workers=workers,
            registry=workers,
            job_types=await open_job_types(stack, redis),
            code_schedules=await open_code_schedules(stack, redis),
            reader=ledger.reader,
            writer=ledger.writer,
            quarantine=ledger.quarantine,
            scheduled_jobs=ledger.scheduled_jobs,
            schedule_statistics=ledger.schedule_statistics,
            schedules=ledger.schedules,
            lost=ledger.lost,
            holds=ledger.holds,
            incidents=ledger.incidents,
            audit=ledger.audit,
            audit_retention_days=settings.audit_retention_days,
            notices=ledger.notices,
            webhook=webhook_of(settings),
            duplicate_guard=ledger.duplicate_guard,
            is_alone=rabbitmq is None,
            policies=policies,
            keys=ledger.keys,
            kept_bytes=settings.ledger_payload_bytes,
            circuits=breakers.view(),
            rate_limiter=await open_rate_limiter(stack, redis),
            run_rates=await open_run_rates(stack, redis),
            waiting=ledger.waiting,
            clock=clock,
            ready=all_ready(broker, ledger),
            status=backend_status(broker, ledger, breakers, folder=data),
            breaker_scope=policies.rule,
            health_grace=settings.health_grace,
            settings_file=lambda: policies.status,
            metrics_tenants=settings.metrics_tenants,
            on_settings_change=policies.on_change,
        )


@asynccontextmanager
async def open_jobapi(settings: Settings) -> AsyncIterator[JobApiParts]:
    """RabbitMQ; with DATABASE_URL also the ledger to read from, and idempotency keys there or, with REDIS_URL, in Redis.

    With REDIS_URL it also has a view of the breakers.
    """
    redis = settings.url("redis_url")
    async with AsyncExitStack() as stack:
        ledger = await open_shared_ledger(stack, settings)
        broker = await open_broker(stack, settings, settings.url("rabbitmq_url") or RABBITMQ_URL)
        redis_keys = await stack.enter_async_context(RedisIdempotencyKeys(redis)) if redis is not None else None
        keys: IdempotencyKeys = redis_keys or (ledger.keys if ledger else UnconfiguredKeys())
        reader: JobReader = ledger.reader if ledger else UnconfiguredJobReader()
        policies = await _policies(stack, settings)
        circuits = await stack.enter_async_context(RedisBreakerReader(redis, policies.breaker)) if redis is not None else None
        yield JobApiParts(
            broker=broker,
            system=system_of(broker),
            clock=wall_clock,
            ready=all_ready(broker, ledger),
            status=backend_status(broker, ledger, keys=redis_keys),
            breaker_scope=policies.rule,
            health_grace=settings.health_grace,
            settings_file=lambda: policies.status,
            metrics_tenants=settings.metrics_tenants,
            reader=reader,
            keys=keys,
            kept_bytes=settings.ledger_payload_bytes,
            holds=ledger.holds if ledger else UnconfiguredHolds(),
            circuits=circuits.view() if circuits is not None else None,
            registry=await open_workers(stack, redis) if redis is not None else None,
            job_types=await open_job_types(stack, redis) if redis is not None else None,
            policies=policies,
            rate_limiter=await open_rate_limiter(stack, redis),
            waiting=ledger.waiting if ledger else None,
        )


@asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[WorkerParts]:
    """RabbitMQ and Redis; with DATABASE_URL also the ledger, to recognise superseded copies.

    Idempotency keys of what handlers submit are in Redis, too.
    """
    redis = settings.url("redis_url") or REDIS_URL
    async with AsyncExitStack() as stack:
        ledger = await open_shared_ledger(stack, settings)
        broker = await open_broker(stack, settings, settings.url("rabbitmq_url") or RABBITMQ_URL, pools=_pools(settings))
        duplicate_guard: DuplicateGuard = ledger.duplicate_guard if ledger else await stack.enter_async_context(RedisDuplicateGuard(redis))
        policies = await _policies(stack, settings)
        breakers = await open_breakers(stack, settings, policies, redis)
        yield WorkerParts(
            broker=broker,
            system=system_of(broker),
            clock=wall_clock,
            ready=all_ready(broker, ledger),
            status=backend_status(broker, ledger, breakers),
            breaker_scope=policies.rule,
            health_grace=settings.health_grace,
            settings_file=lambda: policies.status,
            metrics_tenants=settings.metrics_tenants,
            breakers=breakers,
            circuits=breakers.view(),
            run_rates=await open_run_rates(stack, redis),
            workers=await open_workers(stack, redis),
            job_types=await open_job_types(stack, redis),
            code_schedules=await open_code_schedules(stack, redis),
            keys=await stack.enter_async_context(RedisIdempotencyKeys(redis)),
            rate_limiter=await open_rate_limiter(stack, redis),
            waiting=ledger.waiting if ledger else None,
            kept_bytes=settings.ledger_payload_bytes,
            duplicate_guard=duplicate_guard,
            policies=policies,
        )


@asynccontextmanager
async def open_control_plane(settings: Settings) -> AsyncIterator[ControlPlaneParts]:
    """RabbitMQ, Redis and the ledger: in PostgreSQL with DATABASE_URL, else in a file in DATA_DIR."""
    async with AsyncExitStack() as stack:
        database: str | Path | None = settings.url("database_url")
        data: DataFolder | None = None
        if database is None:
            data = stack.enter_context(open_data_folder(settings.data_dir))
            database = data.ledger_db
        ledger = await open_own_ledger(stack, settings, database)
        broker = await open_broker(stack, settings, settings.url("rabbitmq_url") or RABBITMQ_URL)
        policies = await _policies(stack, settings)
        redis = settings.url("redis_url") or REDIS_URL
        breakers = await open_breakers(stack, settings, policies, redis)
        yield ControlPlaneParts(
            broker=broker,
            system=system_of(broker),
            clock=wall_clock,
            ready=all_ready(broker, ledger),
            status=backend_status(broker, ledger, breakers, folder=data),
            breaker_scope=policies.rule,
            health_grace=settings.health_grace,
            settings_file=lambda: policies.status,
            metrics_tenants=settings.metrics_tenants,
            on_settings_change=policies.on_change,
            policies=policies,
            run_rates=await open_run_rates(stack, redis),
            breakers=breakers,
            workers=await open_workers(stack, redis),
            job_types=await open_job_types(stack, redis),
            code_schedules=await open_code_schedules(stack, redis),
            writer=ledger.writer,
            quarantine=ledger.quarantine,
            scheduled_jobs=ledger.scheduled_jobs,
            schedule_statistics=ledger.schedule_statistics,
            schedules=ledger.schedules,
            lost=ledger.lost,
            holds=ledger.holds,
            incidents=ledger.incidents,
            audit=ledger.audit,
            audit_retention_days=settings.audit_retention_days,
            notices=ledger.notices,
            webhook=webhook_of(settings),
            waiting=ledger.waiting,
        )


async def _policies(stack: AsyncExitStack, settings: Settings) -> Policies:
    policies = Policies(settings)
    policies.report()
    await stack.enter_async_context(policies.watched())
    return policies


def _pools(settings: Settings) -> Sequence[str]:
    return (settings.pool,) if settings.pool else ()
