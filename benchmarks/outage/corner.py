"""A corner of the servers that is ours alone: a virtual host of RabbitMQ, a database of Redis, a database of PostgreSQL; gone afterwards.

The servers are those of SICKBAY_TEST_RABBITMQ_URL, SICKBAY_TEST_REDIS_URL and SICKBAY_TEST_POSTGRES_URL, which `scripts/with_servers.py`
sets, else those on the usual ports. A database of Redis is claimed as the tests do it, so that both may run at once.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import uuid
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]  # it ships none
import psutil
from redis.asyncio import Redis

RABBITMQ: Final = os.environ.get("SICKBAY_TEST_RABBITMQ_URL") or "amqp://guest:guest@localhost:5672"
RABBITMQCTL: Final = shlex.split(os.environ.get("SICKBAY_TEST_RABBITMQCTL") or "rabbitmqctl")
REDIS: Final = os.environ.get("SICKBAY_TEST_REDIS_URL") or "redis://localhost:6379"
POSTGRES: Final = os.environ.get("SICKBAY_TEST_POSTGRES_URL") or "postgresql://postgres@127.0.0.1:5432/postgres"
CLAIMS_IN: Final = 15
ANSWER_S: Final = 60.0


@asynccontextmanager
async def own_corner() -> AsyncIterator[dict[str, str]]:
    """The variables that tell the product."""
    async with AsyncExitStack() as stack:
        rabbitmq = await stack.enter_async_context(own_vhost())
        redis = await stack.enter_async_context(own_redis())
        postgres = await stack.enter_async_context(own_database())
        yield {"RABBITMQ_URL": rabbitmq, "REDIS_URL": redis, "DATABASE_URL": postgres}


@asynccontextmanager
async def own_vhost() -> AsyncIterator[str]:
    """The URL of a virtual host."""
    name = f"sickbay-outage-{uuid.uuid4().hex[:8]}"
    await rabbitmqctl("add_vhost", name)
    try:
        await rabbitmqctl("set_permissions", "-p", name, urlsplit(RABBITMQ).username or "guest", ".*", ".*", ".*")
        yield urlsplit(RABBITMQ)._replace(path=f"/{name}").geturl()
    finally:
        await rabbitmqctl("delete_vhost", name)


async def rabbitmqctl(*words: str) -> None:
    """Run one command on the server; OSError with what it said if that fails."""
    process = await asyncio.create_subprocess_exec(*RABBITMQCTL, *words, stdout=PIPE, stderr=STDOUT)
    async with asyncio.timeout(ANSWER_S):
        output, _ = await process.communicate()
    if process.returncode:
        raise OSError(f"rabbitmqctl {' '.join(words)} failed: {output.decode()}")


@asynccontextmanager
async def own_redis() -> AsyncIterator[str]:
    """The URL of an empty database that nobody else has claimed."""
    async with Redis.from_url(_redis(CLAIMS_IN), decode_responses=True) as claims:
        number = await _claimed(claims)
        try:
            async with Redis.from_url(_redis(number)) as mine:
                await mine.flushdb()
                yield _redis(number)
                await mine.flushdb()
        finally:
            await claims.delete(_claim(number))


@asynccontextmanager
async def own_database() -> AsyncIterator[str]:
    """The URL of an empty database."""
    name = f"sickbay_outage_{uuid.uuid4().hex[:8]}"
    await _sql(f"CREATE DATABASE {name}")
    try:
        yield urlsplit(POSTGRES)._replace(scheme="postgresql", path=f"/{name}").geturl()
    finally:
        await _sql(f"DROP DATABASE {name} WITH (FORCE)")


def _redis(number: int) -> str:
    return urlsplit(REDIS)._replace(path=f"/{number}").geturl()


def _claim(number: int) -> str:
    return f"sickbay-test:{number}"


async def _claimed(claims: Redis) -> int:
    for number in range(1, CLAIMS_IN):
        holder = await claims.get(_claim(number))
        if holder is not None and not psutil.pid_exists(int(holder)):
            await claims.delete(_claim(number))
        if await claims.set(_claim(number), os.getpid(), nx=True):
            return number
    raise OSError("every database of Redis is in use")


async def _sql(statement: str) -> None:
    connection = await asyncpg.connect(POSTGRES.replace("+asyncpg", ""), timeout=ANSWER_S)
    try:
        await connection.execute(statement, timeout=ANSWER_S)
    finally:
        await connection.close()
