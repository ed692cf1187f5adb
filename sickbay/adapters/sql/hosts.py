"""Connects to the usable one of several servers, without waiting for those that do not answer.

The servers of a URL are tried in order, starting with the last successful one. If one has not answered after HEAD_START_S, the next is
tried at the same time (as RFC 8305 does with addresses), so a dead host costs that delay and not the whole connection timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import SplitResult, urlencode

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from sickbay.domain.errors import SettingsError

HEAD_START_S: Final = 0.5
"""How long to wait for a server before the next one is tried, too."""

Connect = Callable[[str], Awaitable[asyncpg.Connection]]


def url_per_host(parts: SplitResult, query: dict[str, str]) -> tuple[str, ...]:
    """One URL per host; ValueError if the numbers of hosts and ports differ."""
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
    """The servers of one URL, each with a URL of its own."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)
        self._preferred = 0

    async def connect(self, connect: Connect) -> asyncpg.Connection:
        """A connection to the first server that accepts one, else the error of the first that answered at all.

        SettingsError only if all of them are misconfigured.
        """
        order = [*range(self._preferred, len(self._urls)), *range(self._preferred)]
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
                if winner := next((task for task in trying if task in done and not task.exception()), None):
                    self._preferred = trying.pop(winner)
                    return winner.result()
                for task in done:
                    del trying[task]
        finally:
            for task in trying:
                task.add_done_callback(_drop)
                task.cancel()
        raise min(errors, key=_priority)


def _drop(task: asyncio.Future[asyncpg.Connection]) -> None:
    """Close a connection that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


def _priority(error: BaseException) -> int:
    """The least error is raised: one of a server that answered, else a network error, else a wrong setting."""
    if isinstance(error, SettingsError):
        return 2
    return int(isinstance(error, OSError))  # as TimeoutError is
