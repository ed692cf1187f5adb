"""Opens one backend at a time for `backends.py`: the server that a URL names, or without a URL what is embedded in its place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from sickbay.adapters.embedded.breaker_file import BreakerFile
from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.code_schedules import EmbeddedCodeSchedules
from sickbay.adapters.embedded.job_types import EmbeddedJobTypes
from sickbay.adapters.embedded.rate_limiter import EmbeddedRateLimiter
from sickbay.adapters.embedded.run_rates import EmbeddedRunRates
from sickbay.adapters.embedded.workers import EmbeddedWorkerRegistry
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.code_schedules import RedisCodeSchedules
from sickbay.adapters.redis.job_types import RedisJobTypes
from sickbay.adapters.redis.rate_limiter import RedisRateLimiter
from sickbay.adapters.redis.run_rates import RedisRunRates
from sickbay.adapters.redis.workers import RedisWorkerRegistry
from sickbay.adapters.sql.ledger import Ledger, open_ledger
from sickbay.adapters.webhook.http import HttpWebhook
from sickbay.domain.errors import SettingsError
from sickbay.domain.foreign import foreign_tenants
from sickbay.ports import Clock
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.system.clock import SteadyClock, uptime, wall_clock


async def open_broker(
    stack: AsyncExitStack,
    settings: Settings,
    url: str | None,
    queues: Path | str = ":memory:",
    *,
    pools: Sequence[str] = (),
    clock: Clock | None = None,
) -> SqliteBroker | RabbitBroker:
    """RabbitMQ, for the queues of these `pools`; or embedded queues in a file, or in memory."""
    if url is None:
        return await stack.enter_async_context(
            SqliteBroker(queues, clock or SteadyClock(), settings.sqlite_synchronous, settings.prefetch_bytes)
        )
    broker = RabbitBroker(
        url,
        wall_clock,
        name=settings.worker_name,
        prefetch_bytes=settings.prefetch_bytes,
        pools=pools,
        trusted_users=settings.broker_users,
        checks_users=foreign_tenants(settings.foreign_tenants) is not None,
    )
    return await stack.enter_async_context(broker)


async def open_breakers(
    stack: AsyncExitStack,
    settings: Settings,
    policies: Policies,
    url: str | None,
    path: Path | None = None,
    *,
    clock: Clock = wall_clock,
    steady: Clock = uptime,
) -> EmbeddedBreakers | RedisBreakers:
    """In Redis; or embedded, durable in the file `path` if there is one, by two clocks in ms of which `steady` is monotonic."""
    if url is None:
        file = BreakerFile(path) if path is not None else None
        chance = Random()  # noqa: S311 - spreads waits and tells probes apart; asking the kernel each time costs more than the rest of a step
        breakers = EmbeddedBreakers(policies.breaker, clock, chance, settings.worker_name, steady=steady, file=file)
        stack.callback(breakers.close)
        return breakers
    return await stack.enter_async_context(RedisBreakers(url, policies.breaker, worker=settings.worker_name))


async def open_workers(stack: AsyncExitStack, url: str | None) -> EmbeddedWorkerRegistry | RedisWorkerRegistry:
    """What live workers say of themselves, in Redis or in memory."""
    if url is None:
        return EmbeddedWorkerRegistry(SteadyClock())
    return await stack.enter_async_context(RedisWorkerRegistry(url))


async def open_job_types(stack: AsyncExitStack, url: str | None) -> EmbeddedJobTypes | RedisJobTypes:
    """What live workers say of their job types, in Redis or in memory."""
    if url is None:
        return EmbeddedJobTypes(SteadyClock())
    return await stack.enter_async_context(RedisJobTypes(url))


async def open_code_schedules(stack: AsyncExitStack, url: str | None) -> EmbeddedCodeSchedules | RedisCodeSchedules:
    """The schedules in the code of live workers, in Redis or in memory."""
    if url is None:
        return EmbeddedCodeSchedules(SteadyClock())
    return await stack.enter_async_context(RedisCodeSchedules(url))


async def open_own_ledger(stack: AsyncExitStack, settings: Settings, where: str | Path, clock: Clock = wall_clock) -> Ledger:
    """The ledger of the process that makes its tables and writes it; leases follow another clock than that of the machine, too."""
    own_time = clock is wall_clock
    opening = open_ledger(where, clock, patient=True, own_time=own_time, incident_rules=settings.incident_rules)
    return await stack.enter_async_context(opening)


async def open_shared_ledger(stack: AsyncExitStack, settings: Settings) -> Ledger | None:
    """The ledger that the control plane writes, for a process that reads it; None without DATABASE_URL."""
    url = settings.url("database_url")
    if url is None:
        return None
    if url.startswith("sqlite"):
        raise SettingsError("DATABASE_URL must name a PostgreSQL database here: processes cannot share a SQLite ledger")
    return await stack.enter_async_context(open_ledger(url, wall_clock, migrates=False, patient=True, own_time=True))


async def open_rate_limiter(stack: AsyncExitStack, url: str | None) -> EmbeddedRateLimiter | RedisRateLimiter:
    """The rates of submissions, in Redis or in memory. Redis is connected to at the first question: not without a rate."""
    if url is None:
        return EmbeddedRateLimiter(_microseconds)
    return await stack.enter_async_context(RedisRateLimiter(url))


async def open_run_rates(stack: AsyncExitStack, url: str | None) -> EmbeddedRunRates | RedisRunRates:
    """The same for the rates of runs."""
    if url is None:
        return EmbeddedRunRates(_microseconds)
    return await stack.enter_async_context(RedisRunRates(url))


def webhook_of(settings: Settings) -> HttpWebhook | None:
    """Where incidents are told; None without WEBHOOK_URL."""
    url = settings.url("webhook_url")
    return HttpWebhook(url, settings.url("webhook_secret"), wall_clock) if url is not None else None


def _microseconds() -> int:
    return uptime() * 1_000
