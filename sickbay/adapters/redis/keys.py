"""Idempotency keys in Redis: one script on one key, so exactly one of many equal requests is accepted; many of them are one round trip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from sickbay.adapters.redis.client import (
    REJECTS_WRITES,
    UNAVAILABLE,
    Client,
    KeyRejected,
    RedisUnavailable,
    Refused,
    open_client,
    rejection_of,
)
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.adapters.redis.write_check import WriteCheck
from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason, SickbayError, Unavailable
from sickbay.domain.queries import KeyClaim, Reservation
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

    async def reserve(self, claims: Sequence[KeyClaim]) -> Sequence[Reservation | SickbayError]:
        """Reserve each key for its job, or return its owner; see the port."""
        return [answer if isinstance(answer, KeyRejected) else _result(*answer) for answer in await self._run("reserve", claims)]

    async def confirm(self, claims: Sequence[KeyClaim]) -> None:
        """The jobs are durable: repeats are duplicates from now on."""
        _raise_first(await self._run("confirm", claims))

    async def release(self, claims: Sequence[KeyClaim]) -> None:
        """The jobs were certainly not accepted: the keys are free again. A confirmed key stays, and one that another job has."""
        _raise_first(await self._run("release", claims))

    async def _run(self, operation: str, claims: Sequence[KeyClaim]) -> list[Any]:
        words = self._words(operation, LEASE_MS, RETENTION_MS)
        return await self._ask([(f"idempotency:{one.tenant}:{one.key}", [*words, one.digest, one.job_id]) for one in claims])

    def _words(self, operation: str, lease_ms: int, retention_ms: int) -> list[Word]:
        return [operation, "" if self._clock is None else self._clock(), lease_ms, retention_ms]

    async def _ask(self, calls: Sequence[tuple[str, Sequence[Word]]]) -> list[Any]:
        """The answer to each, in one round trip; where something is wrong with one key alone, that is the answer."""
        if not calls:
            return []
        try:
            answers = await self._store.ask(lambda client: self._answers(client, calls))
        except RedisUnavailable as error:
            self.trouble = REJECTS_WRITES if isinstance(error, Refused) else UNAVAILABLE
            raise
        self.trouble = ""
        return answers

    async def _answers(self, client: Client, calls: Sequence[tuple[str, Sequence[Word]]]) -> list[Any]:
        answers = await self._script.run_each(client, calls)
        return [rejection_of(answer) if isinstance(answer, Exception) else answer for answer in answers]

    async def _check_write(self) -> None:
        _raise_first(await self._ask([(TEST_KEY, [*self._words("reserve", 1, 1_000), "", ""])]))


def _result(answer: bytes, owner: bytes, at: bytes) -> Reservation | SickbayError:
    """What the script says about a claim."""
    if answer == b"reused":
        return AlreadyExists("this idempotency key was used for a different request")
    if answer == b"in progress":
        return Aborted("a request with this idempotency key is in progress; try again later", ErrorReason.REQUEST_IN_PROGRESS)
    return Reservation(owner.decode(), int(at), duplicate=answer == b"duplicate", retaken=answer == b"retaken")


def _raise_first(answers: Sequence[Any]) -> None:
    for answer in answers:
        if isinstance(answer, KeyRejected):
            raise answer
