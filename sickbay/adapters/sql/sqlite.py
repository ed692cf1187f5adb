"""Opens connections of aiosqlite so that a cancelled caller does not leak one."""

from __future__ import annotations

import asyncio
from typing import Any

import aiosqlite


async def connect(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    """A connection in a daemon thread; takes the arguments of `aiosqlite.connect`.

    The driver leaks a connection whose caller is cancelled while it is opened; here it is opened completely and then closed.
    """
    connection = aiosqlite.connect(*arguments, **options)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does
    opening = asyncio.ensure_future(_open(connection))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


async def _open(connection: aiosqlite.Connection) -> aiosqlite.Connection:
    return await connection


def _close(opening: asyncio.Future[aiosqlite.Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().stop()
