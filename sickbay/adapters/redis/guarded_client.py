"""Calls Redis, and pauses the calls after repeated failures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from redis.exceptions import ReadOnlyError

from sickbay.adapters.redis.client import TIMEOUT_S, Client, KeyRejected, RedisUnavailable, Refused, translated
from sickbay.concurrency.tasks import DetachedTasks, detached

T = TypeVar("T")

MAX_ERRORS: Final = 3
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
ONE_CALL_S: Final = 2 * TIMEOUT_S


class CallGate:
    """Back-off for calls: three consecutive errors pause them for 1 s, each further one doubles the pause, up to 30 s.

    Pure; times are seconds of any monotonic clock.
    """

    def __init__(self) -> None:
        self._errors = 0
        self._until = 0.0

    def may_ask(self, now: float) -> bool:
        """Whether to call. The first caller after a pause tries alone: others must wait for its result."""
        if self._errors < MAX_ERRORS:
            return True
        if now < self._until:
            return False
        self._until = now + ONE_CALL_S
        return True

    def fail(self, now: float) -> None:
        """A call failed."""
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._until = now + min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(16, self._errors - MAX_ERRORS))

    def succeed(self) -> None:
        """A call succeeded."""
        self._errors = 0


class GuardedClient:
    """A client whose calls take at most half a second, and are paused after failures."""

    def __init__(self, client: Client) -> None:
        """`close` closes the client, too."""
        self.client = client
        self.detached = DetachedTasks()
        self._gate = CallGate()

    @detached
    async def ask(self, call: Callable[[Client], Awaitable[T]]) -> T:
        """Make a call; Unavailable if Redis does not answer in time, or calls are paused."""
        if not self._gate.may_ask(monotonic()):
            raise RedisUnavailable("calls are paused after a timeout")
        try:
            with translated():
                async with asyncio.timeout(ONE_CALL_S):
                    answer = await call(self.client)
        except KeyRejected:
            self._gate.succeed()
            raise
        except Refused as refusal:
            self._gate.succeed()  # it does answer: reads continue
            if isinstance(refusal.__cause__, ReadOnlyError) or "READONLY" in refusal.detail:
                await self._leave_replica()
            raise
        except RedisUnavailable:
            self._gate.fail(monotonic())
            raise
        self._gate.succeed()
        return answer

    async def _leave_replica(self) -> None:
        """After a failover our connections lead to the old primary; new ones may lead to the current one."""
        with contextlib.suppress(RedisUnavailable), translated():
            await self.client.connection_pool.disconnect(inuse_connections=False)

    def reset(self) -> None:
        """Redis answered on another connection: end the pause."""
        self._gate.succeed()

    async def close(self) -> None:
        """Wait for running calls, and close every connection; closing twice is harmless."""
        await self.detached.close(ONE_CALL_S)
        with translated():
            await self.client.aclose(close_connection_pool=True)
