"""What workers announce of themselves in one Redis hash: the part that the registries of job types and of schedules in code share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from sickbay.adapters.redis.client import REJECTS_WRITES, UNAVAILABLE, Client, RedisUnavailable, Refused, open_client
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.domain.errors import Unavailable
from sickbay.ports import Clock

_SCRIPT: Final = "announced"


class AnnouncedHash:
    """One hash, and one script that uses the time of Redis. Open it with `async with`; Redis need not be available."""

    key: str
    """Of the hash,"""
    retention_ms: int
    """and how long an entry is kept that is not renewed."""

    def __init__(self, url: str, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` replaces the time of Redis (tests). SettingsError if the URL is invalid."""
        self._clock = clock
        self._store = GuardedClient(connect(url))
        self._script = Script(source(_SCRIPT))
        self.trouble = ""
        """Why the entries are unknown, without secrets; "" if the last call succeeded."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(Unavailable):
            await self._store.close()

    async def changed(self, seconds: float) -> None:
        """Wait; nobody tells what is announced."""
        await asyncio.sleep(seconds)

    async def _run(self, operation: str, *more: Word) -> list[bytes]:
        words: list[Word] = [operation, "" if self._clock is None else self._clock(), self.retention_ms, *more]
        try:
            answer: list[bytes] = await self._store.ask(lambda client: self._script.run(client, self.key, words))
        except RedisUnavailable as error:
            self.trouble = REJECTS_WRITES if isinstance(error, Refused) else UNAVAILABLE
            self._store.reset()  # no pauses: calls are rare
            raise
        self.trouble = ""
        return answer
