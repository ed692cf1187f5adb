"""Idempotency keys in Redis: one script on one key, so exactly one of many equal requests goes through."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from sickbay.adapters.redis.client import Client, open_client
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.adapters.redis.store import Store
from sickbay.errors import Aborted, AlreadyExists, ErrorReason, Unavailable
from sickbay.ports import Clock
from sickbay.queries import Reservation

LEASE_MS: Final = 30_000
RETENTION_MS: Final = 86_400_000


class RedisIdempotencyKeys:
    """Implements `IdempotencyKeys`; open it with `async with`. Redis forgets each key by itself after 24 hours."""

    def __init__(self, url: str, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` replaces the time of Redis (tests). SettingsError if the URL cannot be meant."""
        self._clock = clock
        self._store = Store(connect(url))
        self._script = Script(source("keys"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(Unavailable):
            await self._store.close()

    async def reserve(self, tenant: str, key: str, digest: bytes, job_id: str) -> Reservation:
        """Take the key for `job_id`, or learn whose it is; see the port."""
        answer, owner, at = await self._run("reserve", tenant, key, digest, job_id)
        if answer == "reused":
            raise AlreadyExists("this idempotency key was used for a different request")
        if answer == "in progress":
            raise Aborted("a request with this idempotency key is under way; try again later", ErrorReason.REQUEST_IN_PROGRESS)
        return Reservation(owner, int(at), duplicate=answer == "duplicate", retaken=answer == "retaken")

    async def confirm(self, tenant: str, key: str) -> None:
        """The job is durable: repeats are duplicates from now on."""
        await self._run("confirm", tenant, key)

    async def release(self, tenant: str, key: str) -> None:
        """The job was certainly not accepted: the key is free again. A confirmed key stays."""
        await self._run("release", tenant, key)

    async def _run(self, operation: str, tenant: str, key: str, *more: Word) -> tuple[str, str, str]:
        now = "" if self._clock is None else self._clock()
        words = [operation, now, LEASE_MS, RETENTION_MS, *more]
        answer, owner, at = await self._store.ask(lambda client: self._script.run(client, f"idempotency:{tenant}:{key}", words))
        return answer.decode(), owner.decode(), at.decode()
