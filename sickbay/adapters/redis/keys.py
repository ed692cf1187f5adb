"""Idempotency keys in Redis: one script on one key, so exactly one of many equal requests is accepted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from sickbay.adapters.redis.client import REJECTS_WRITES, UNAVAILABLE, Client, KeyRejected, RedisUnavailable, Refused, open_client
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.adapters.redis.write_check import WriteCheck
from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason, Unavailable
from sickbay.domain.queries import Reservation
from sickbay.ports import Clock

LEASE_MS: Final = 30_000
RETENTION_MS: Final = 86_400_000
TEST_KEY: Final = "idempotency:!"
"""Not a tenant's key: the key of the test write."""


class RedisIdempotencyKeys:
    """Implements `IdempotencyKeys`; open it with `async with`. Redis forgets each key by itself after 24 hours."""

    def __init__(self, url: str, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` replaces the time of Redis (tests). SettingsError if the URL is invalid."""
        self._clock = clock
        self._store = GuardedClient(connect(url))
        self._script = Script(source("keys"))
        self._write_check = WriteCheck("idempotency keys", self._check_write, lambda: bool(self.trouble))
        self.trouble = ""
        """Why keys cannot be stored, without secrets; "" if the last call succeeded."""

    async def __aenter__(self) -> Self:
        self._write_check.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._write_check.stop()
        with contextlib.suppress(Unavailable):
            await self._store.close()

    async def reserve(self, tenant: str, key: str, digest: bytes, job_id: str) -> Reservation:
        """Reserve the key for `job_id`, or return its owner; see the port."""
        answer, owner, at = await self._run("reserve", tenant, key, digest, job_id)
        if answer == "reused":
            raise AlreadyExists("this idempotency key was used for a different request")
        if answer == "in progress":
            raise Aborted("a request with this idempotency key is in progress; try again later", ErrorReason.REQUEST_IN_PROGRESS)
        return Reservation(owner, int(at), duplicate=answer == "duplicate", retaken=answer == "retaken")

    async def confirm(self, tenant: str, key: str) -> None:
        """The job is durable: repeats are duplicates from now on."""
        await self._run("confirm", tenant, key)

    async def release(self, tenant: str, key: str, job_id: str) -> None:
        """The job was certainly not accepted: the key is free again. A confirmed key stays, and one that another job has."""
        await self._run("release", tenant, key, "", job_id)

    async def _run(self, operation: str, tenant: str, key: str, *more: Word) -> tuple[str, str, str]:
        now = "" if self._clock is None else self._clock()
        words = [operation, now, LEASE_MS, RETENTION_MS, *more]
        answer, owner, at = await self._ask(f"idempotency:{tenant}:{key}", words)
        return answer.decode(), owner.decode(), at.decode()

    async def _ask(self, name: str, words: list[Word]) -> Any:
        try:
            answer = await self._store.ask(lambda client: self._script.run(client, name, words))
        except KeyRejected:
            self.trouble = ""
            raise
        except RedisUnavailable as error:
            self.trouble = REJECTS_WRITES if isinstance(error, Refused) else UNAVAILABLE
            raise
        self.trouble = ""
        return answer

    async def _check_write(self) -> None:
        await self._ask(TEST_KEY, ["reserve", "" if self._clock is None else self._clock(), 1, 1_000, "", ""])
