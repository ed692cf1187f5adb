"""A corner of one's own on the test servers: a virtual host of RabbitMQ, a database of Redis, a database of PostgreSQL, all empty."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiormq
import asyncpg
from redis import Redis
from yarl import URL

from sickbay.adapters.rabbitmq.topology import QUEUES
from tests.support.postgres_server import POSTGRES
from tests.support.rabbitmq_server import empty, rabbitmqctl, vhost
from tests.support.redis_servers import claimed_database


@dataclass(frozen=True)
class Corner:
    """The three URLs, and an operator's look into each server."""

    rabbitmq: str
    redis: str
    postgres: str

    @property
    def env(self) -> Mapping[str, str]:
        """What tells the product."""
        return {"RABBITMQ_URL": self.rabbitmq, "REDIS_URL": self.redis, "DATABASE_URL": self.postgres}

    def redis_cli(self, *words: str) -> Any:
        """What `redis-cli` would show; text decoded."""
        with Redis.from_url(self.redis, decode_responses=True) as client:
            return client.execute_command(*words)

    def list_queues(self) -> Mapping[str, int]:
        """`rabbitmqctl list_queues`: the depths of our queues that exist."""
        table = rabbitmqctl("-q", "--no-table-headers", "list_queues", "-p", URL(self.rabbitmq).path[1:], "name", "messages")
        return {name: int(count) for name, count in (line.split("\t") for line in table.splitlines() if line)}

    def depths(self) -> Mapping[str, int]:
        """The messages that wait in each of our queues, asked over AMQP: quick, without those in a consumer's hands."""
        return asyncio.run(_depths(self.rabbitmq))

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Rows of the ledger."""
        return asyncio.run(_sql(self.postgres, statement, *values))


@contextmanager
def own_corner() -> Iterator[Corner]:
    """Made now, gone at the end."""
    database = f"sickbay_{uuid.uuid4().hex}"
    asyncio.run(empty(vhost()))
    asyncio.run(_sql(POSTGRES, f"CREATE DATABASE {database}"))
    try:
        with claimed_database() as redis:
            yield Corner(vhost(), redis, urlsplit(POSTGRES)._replace(scheme="postgresql", path=f"/{database}").geturl())
    finally:
        asyncio.run(_sql(POSTGRES, f"DROP DATABASE {database} WITH (FORCE)"))
        asyncio.run(empty(vhost()))


async def _depths(url: str) -> Mapping[str, int]:
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        answers = {queue.name: await channel.queue_declare(queue.name, passive=True) for queue in QUEUES}
        return {name: answer.message_count or 0 for name, answer in answers.items()}


async def _sql(url: str, statement: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=10)
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()
