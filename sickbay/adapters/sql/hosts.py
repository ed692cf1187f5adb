"""Connects to the one of several servers that may be used, without waiting for those that say nothing.

The servers of a URL are tried in their order, the one that was right last time first. One that has not answered after a moment gets company
from the next (as RFC 8305 does it with addresses), so a silent host costs that moment and not the whole time to connect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import SplitResult, urlencode

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from sickbay.domain.errors import SettingsError

HEAD_START_S: Final = 0.5
"""How long a server is tried alone before the next is tried beside it."""

Connect = Callable[[str], Awaitable[asyncpg.Connection]]


def one_by_one(parts: SplitResult, query: dict[str, str]) -> tuple[str, ...]:
    """A URL for each of its hosts; ValueError if there are not as many ports as hosts."""
    login, at, hosts = parts.netloc.rpartition("@")
    if hosts:
        return tuple(_url(parts, query, login + at + host) for host in hosts.split(","))
    names = query.get("host", "").split(",")
    ports = query.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(names)
    places = [{"host": host, "port": port} for host, port in zip(names, ports, strict=True)]
    return tuple(_url(parts, query | {name: value for name, value in place.items() if value}, parts.netloc) for place in places)


def _url(parts: SplitResult, query: dict[str, str], netloc: str) -> str:
    return parts._replace(netloc=netloc, query=urlencode(query)).geturl()


class Hosts:
    """The servers of one URL, each by a URL of its own."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)
        self._right = 0

    async def connect(self, connect: Connect) -> asyncpg.Connection:
        """A connection to the first that takes one. If none does: what the first says that answered at all.

        SettingsError only if every one of them is set up wrongly.
        """
        order = [*range(self._right, len(self._urls)), *range(self._right)]
        if len(order) == 1:
            return await connect(self._urls[0])
        trying: dict[asyncio.Future[asyncpg.Connection], int] = {}
        errors: list[BaseException] = []
        try:
            while order or trying:
                if order:
                    number = order.pop(0)
                    trying[asyncio.ensure_future(connect(self._urls[number]))] = number
                done, _ = await asyncio.wait(trying, timeout=HEAD_START_S if order else None, return_when=asyncio.FIRST_COMPLETED)
                errors += [error for task in done if (error := task.exception())]
                if won := next((task for task in trying if task in done and not task.exception()), None):
                    self._right = trying.pop(won)
                    return won.result()
                for task in done:
                    del trying[task]
        finally:
            for task in trying:
                task.add_done_callback(_drop)
                task.cancel()
        raise min(errors, key=_says_little)


def _drop(task: asyncio.Future[asyncpg.Connection]) -> None:
    """It came too late: another was faster."""
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


def _says_little(error: BaseException) -> int:
    """A server that answers says more than one that does not; a wrong setting counts only if nothing else is in the way."""
    if isinstance(error, SettingsError):
        return 2
    return int(isinstance(error, OSError))  # as TimeoutError is
