"""Subscribes to `breaker.events`, and reconnects whenever the connection is lost.

Messages published while it is lost are missed, and the driver may reconnect silently: so after every confirmation of a subscription
everything is read again. An idle connection is pinged, so that a dead one is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from redis.asyncio.client import PubSub

from sickbay.adapters.redis.client import TIMEOUT_S, Client, RedisUnavailable, translated
from sickbay.adapters.redis.guarded_client import FIRST_PAUSE_S, MAX_PAUSE_S
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.errors import Unavailable

SILENCE_S: Final = 15.0
"""An idle connection is pinged after this."""
PONG_S: Final = 2.0
STEADY_S: Final = 10.0
"""After a connection that lasted longer the back-off starts over."""
FIRST_TRY_S: Final = 0.5
"""How long the start waits for the first subscription."""

log = logging.getLogger(__name__)


class BreakerFeed:
    """Calls `on_subscribed` after each subscription, `on_notice` with each message, `on_trouble` with the reason of each failure."""

    def __init__(
        self,
        client: Client,
        channel: str,
        *,
        on_subscribed: Callable[[], Awaitable[None]],
        on_notice: Callable[[bytes], None],
        on_trouble: Callable[[str], None],
        rng: Random,
    ) -> None:
        """If `on_subscribed` raises Unavailable, it reconnects."""
        self._client = client
        self._channel = channel
        self._on_subscribed = on_subscribed
        self._on_notice = on_notice
        self._rng = rng
        self._first_try = asyncio.Event()
        self._on_trouble = on_trouble
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start listening; returns after the first try, successful or not."""
        self._task = asyncio.create_task(self._run(), name="breaker.events")
        await wait_for_event(self._first_try, FIRST_TRY_S)

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            began = asyncio.get_running_loop().time()
            pubsub = self._client.pubsub()
            try:
                with translated():
                    await pubsub.subscribe(self._channel)
                    while True:
                        await self._listen(pubsub)
                        self._first_try.set()
            except Unavailable as error:
                why = getattr(error, "detail", str(error))
                log.debug("the subscription to breaker.events was interrupted: %s", why)
                self._on_trouble(why)
            except Exception:
                log.exception("internal error in the subscription to breaker.events; restarting")
            finally:
                await _close(pubsub)
            self._first_try.set()
            lasted = asyncio.get_running_loop().time() - began > STEADY_S
            pause = FIRST_PAUSE_S if lasted else pause
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(MAX_PAUSE_S, 2 * pause)

    async def _listen(self, pubsub: PubSub) -> None:
        message = await pubsub.get_message(timeout=SILENCE_S)
        if message is None:
            await pubsub.ping()
            message = await pubsub.get_message(timeout=PONG_S)
            if message is None:
                raise RedisUnavailable("a ping timed out")
        if message["type"] == "subscribe":
            await self._on_subscribed()
        elif message["type"] == "message":
            self._on_notice(message["data"])


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends: where the driver uses `asyncio.wait_for`, Python 3.11 can lose a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=TIMEOUT_S)


async def _close(pubsub: PubSub) -> None:
    with contextlib.suppress(Unavailable), translated():
        await pubsub.aclose()  # type: ignore[no-untyped-call]  # the driver's
