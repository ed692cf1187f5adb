"""Waiting for an event with a timeout."""

from __future__ import annotations

import asyncio


async def wait_for_event(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, `seconds` at most (None: no timeout); returns whether it is set.

    Unlike `asyncio.wait_for` before Python 3.12 it never loses a cancellation.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
