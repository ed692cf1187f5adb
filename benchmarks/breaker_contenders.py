"""The breakers that `breaker_storm.py` races: ours and other libraries with shared state in Redis, each used as its documentation says."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import redis
import redis.asyncio

from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.domain.breaker import BreakerConfig, BreakerKey, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind

THRESHOLD: Final = 5
COOLDOWN_S: Final = 2.0
LEASE_S: Final = 3.0

Attempt = Callable[[float, bool], Awaitable[bool]]
"""Ask to run a job that takes so many seconds and then fails or not; whether it ran."""


class DependencyDown(Exception):
    """What the dependency raises."""


class Job:
    """A run that remembers whether it began."""

    def __init__(self, hold_s: float, fails: bool) -> None:  # noqa: FBT001 - see Attempt
        self.began = False
        self._hold_s = hold_s
        self._fails = fails

    async def run(self) -> None:
        """On a loop."""
        self.began = True
        await asyncio.sleep(self._hold_s)
        self._end()

    def run_blocking(self) -> None:
        """In a thread."""
        self.began = True
        time.sleep(self._hold_s)
        self._end()

    def _end(self) -> None:
        if self._fails:
            raise DependencyDown


def guarded(call: Callable[[Job], Awaitable[Any]]) -> Attempt:
    """Whatever the breaker raises, its own refusal or the job's error, the job itself knows whether it began."""

    async def attempt(hold_s: float, fails: bool) -> bool:  # noqa: FBT001 - see Attempt
        job = Job(hold_s, fails)
        try:
            await call(job)
        except Exception:  # noqa: BLE001 - each library has its own
            return job.began
        return job.began

    return attempt


async def sickbay(url: str, circuit: str) -> Attempt:
    """Ours."""
    config = BreakerConfig(failure_threshold=THRESHOLD, cooldown_ms=int(COOLDOWN_S * 1000), probe_lease_ms=int(LEASE_S * 1000))
    breakers = await AsyncExitStack().enter_async_context(RedisBreakers(url, config))
    numbers = itertools.count()

    async def call(job: Job) -> None:
        permit = await breakers.admit(BreakerKey(circuit), f"job-{next(numbers)}")
        if isinstance(permit, Refusal):
            return
        try:
            await job.run()
        except DependencyDown:
            await breakers.settle(permit, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT"))
        else:
            await breakers.settle(permit, SUCCESS)

    return guarded(call)


async def pybreaker(url: str, circuit: str) -> Attempt:
    """The package pybreaker, threads."""
    library: Any = import_module("pybreaker")

    storage = library.CircuitRedisStorage(library.STATE_CLOSED, redis.Redis.from_url(url), namespace=circuit)
    breaker = library.CircuitBreaker(fail_max=THRESHOLD, reset_timeout=COOLDOWN_S, state_storage=storage)
    return guarded(lambda job: asyncio.to_thread(breaker.call, job.run_blocking))


async def aiobreaker(url: str, circuit: str) -> Attempt:
    """The package aiobreaker."""
    library: Any = import_module("aiobreaker")
    stores: Any = import_module("aiobreaker.storage.redis")

    storage = stores.CircuitRedisStorage(library.CircuitBreakerState.CLOSED, redis.Redis.from_url(url), namespace=circuit)
    breaker = library.CircuitBreaker(fail_max=THRESHOLD, timeout_duration=timedelta(seconds=COOLDOWN_S), state_storage=storage)
    return guarded(lambda job: breaker.call_async(job.run))


async def purgatory(url: str, circuit: str) -> Attempt:
    """The package purgatory."""
    library: Any = import_module("purgatory")

    factory = library.AsyncCircuitBreakerFactory(THRESHOLD, COOLDOWN_S, uow=library.AsyncRedisUnitOfWork(url))
    await factory.initialize()

    async def call(job: Job) -> None:
        async with await factory.get_breaker(circuit):
            await job.run()

    return guarded(call)


async def interlock(url: str, circuit: str) -> Attempt:
    """The package interlock-cb, threads."""
    library: Any = import_module("interlock")
    stores: Any = import_module("interlock.integrations.redis")

    config = library.Config(
        minimum_number_of_calls=THRESHOLD, wait_duration_in_open=COOLDOWN_S, permitted_calls_in_half_open=1, max_concurrent_probes=1
    )
    storage = stores.RedisStorage(redis.Redis.from_url(url), poll_interval=0.1)
    breaker = library.CircuitBreaker(name=circuit, config=config, storage=storage)
    return guarded(lambda job: asyncio.to_thread(breaker.call, job.run_blocking))


CONTENDERS: Final[dict[str, Callable[[str, str], Awaitable[Attempt]]]] = {
    "sickbay": sickbay,
    "pybreaker": pybreaker,
    "aiobreaker": aiobreaker,
    "purgatory": purgatory,
    "interlock": interlock,
}


def installed(name: str) -> bool:
    """Whether it can be raced here."""
    return find_spec(name) is not None
