"""Opens what counts the rates of submissions and of runs, in Redis or in memory. It connects at the first question: not without a rate."""

from __future__ import annotations

from contextlib import AsyncExitStack

from sickbay.adapters.embedded.rate_limiter import EmbeddedRateLimiter
from sickbay.adapters.embedded.run_rates import EmbeddedRunRates
from sickbay.adapters.redis.rate_limiter import RedisRateLimiter
from sickbay.adapters.redis.run_rates import RedisRunRates
from sickbay.system.clock import uptime


async def open_rate_limiter(stack: AsyncExitStack, url: str | None) -> EmbeddedRateLimiter | RedisRateLimiter:
    """Of submissions."""
    if url is None:
        return EmbeddedRateLimiter(_microseconds)
    return await stack.enter_async_context(RedisRateLimiter(url))


async def open_run_rates(stack: AsyncExitStack, url: str | None) -> EmbeddedRunRates | RedisRunRates:
    """Of runs."""
    if url is None:
        return EmbeddedRunRates(_microseconds)
    return await stack.enter_async_context(RedisRunRates(url))


def _microseconds() -> int:
    return uptime() * 1_000
