"""Asks Redis, and leaves it alone for a while when it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from redis.exceptions import ReadOnlyError

from sickbay.adapters.redis.client import TIMEOUT_S, Client, Odd, Refused, StoreSilent, translated
from sickbay.concurrency.tasks import DetachedTasks, detached

T = TypeVar("T")

MAX_ERRORS: Final = 3
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
ONE_CALL_S: Final = 2 * TIMEOUT_S


class CallGate:
    """When to ask a store that fails: three errors in a row pause the calls 1 s, each further one doubles the pause, up to 30 s.

    Pure; times are seconds of any clock that never steps.
    """

    def __init__(self) -> None:
        self._errors = 0
        self._until = 0.0

    def may_ask(self, now: float) -> bool:
        """Whether to call. The first caller after a pause tries alone: others are told to wait until it knows."""
        if self._errors < MAX_ERRORS:
            return True
        if now < self._until:
            return False
        self._until = now + ONE_CALL_S
        return True

    def failed(self, now: float) -> None:
        """A call failed."""
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._until = now + min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(16, self._errors - MAX_ERRORS))

    def worked(self) -> None:
        """A call was answered."""
        self._errors = 0


class GuardedClient:
    """One Redis. Every call takes at most half a second, and none is made while its patience pauses."""

    def __init__(self, client: Client) -> None:
        """The client is closed with `close`."""
        self.client = client
        self.detached = DetachedTasks()
        self._patience = CallGate()

    @detached
    async def ask(self, call: Callable[[Client], Awaitable[T]]) -> T:
        """Make a call; Unavailable if Redis does not answer in time, or was not asked because it lately did not."""
        if not self._patience.may_ask(monotonic()):
            raise StoreSilent("calls are paused after a timeout")
        try:
            with translated():
                async with asyncio.timeout(ONE_CALL_S):
                    answer = await call(self.client)
        except Odd:
            self._patience.worked()
            raise
        except Refused as refusal:
            self._patience.worked()  # it does answer: reads go on
            if isinstance(refusal.__cause__, ReadOnlyError) or "READONLY" in refusal.detail:
                await self._leave_replica()
            raise
        except StoreSilent:
            self._patience.failed(monotonic())
            raise
        self._patience.worked()
        return answer

    async def _leave_replica(self) -> None:
        """After a failover our connections lead to what was the primary; new ones may lead to what is it now."""
        with contextlib.suppress(StoreSilent), translated():
            await self.client.connection_pool.disconnect(inuse_connections=False)

    def forgive(self) -> None:
        """Redis was heard by another way: ask again at once."""
        self._patience.worked()

    async def close(self) -> None:
        """Let calls under way end, and close every connection; closing twice is harmless."""
        await self.detached.close(ONE_CALL_S)
        with translated():
            await self.client.aclose(close_connection_pool=True)
