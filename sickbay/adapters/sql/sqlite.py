"""Opens a connection of aiosqlite so that nobody who is cancelled meanwhile leaves one open behind."""

from __future__ import annotations

import asyncio
from typing import Any

import aiosqlite


async def connected(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    """A connection in a thread that keeps no process alive; takes what `aiosqlite.connect` takes.

    The driver forgets a connection that was opened just when its caller was cancelled; here it is opened to the end and then closed.
    """
    connection = aiosqlite.connect(*arguments, **options)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does where it opens them itself
    opening = asyncio.ensure_future(_opened(connection))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


async def _opened(connection: aiosqlite.Connection) -> aiosqlite.Connection:
    return await connection


def _close(opening: asyncio.Future[aiosqlite.Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().stop()
