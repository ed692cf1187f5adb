"""The fleet's breakers for a process that only looks at them: a local view that Redis's notices keep up to date. It writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom
from types import TracebackType
from typing import Self

from sickbay.adapters.redis.address import display_url
from sickbay.adapters.redis.breaker_sync import BreakerSync
from sickbay.adapters.redis.client import Client, open_client
from sickbay.domain.breaker import ConfigOf
from sickbay.ports import BreakerView, Clock


class RedisBreakerReader:
    """Open it with `async with`; Redis need not be available."""

    def __init__(self, url: str, config: ConfigOf, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` replaces the time of Redis (tests). SettingsError if the URL is invalid."""
        self._sync = BreakerSync(connect(url), display_url(url), config, clock, SystemRandom(), writes=False)

    async def __aenter__(self) -> Self:
        await self._sync.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._sync.stop()

    def view(self) -> BreakerView:
        """The breakers. One that is looked at is compared with Redis within a second, so a lost notice is made up for."""
        return self._sync.breaker_view()
