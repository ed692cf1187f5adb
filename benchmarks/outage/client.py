"""Clients of the fake dependency, as users have them: a pool of connections on an event loop, one for each thread, and one for orders."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from dataclasses import asdict
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from benchmarks.outage.service import Condition
from benchmarks.outage.trace import Call

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_BOOK_BYTES: Final = 1 << 26
_ORDER_S: Final = 10.0


class Refused(ConnectionRefusedError):
    """The dependency is down."""


class Full(Exception):
    """It has more to do than it can: 503."""


class Faulty(Exception):
    """It failed by itself: 500."""


class Limited(Exception):
    """Too many requests: 429, with seconds of Retry-After."""

    def __init__(self, retry_after: float) -> None:
        """Come back then."""
        super().__init__(f"come back in {retry_after:g} s")
        self.retry_after = retry_after


def check(answer: str) -> None:
    """Return if the call was served, else raise what a client library would."""
    word, _, number = answer.strip().partition(" ")
    if word == "ok":
        return
    if word == "refused":
        raise Refused(111, "connection refused")
    if word == "full":
        raise Full("503 Service Unavailable")
    if word == "error":
        raise Faulty("500 Internal Server Error")
    if word == "limited":
        raise Limited(float(number))
    raise ConnectionResetError(104, "the connection was closed without an answer")


class Pool:
    """Connections that stay open; each event loop has its own."""

    def __init__(self, port: int) -> None:
        """Nothing is connected yet."""
        self._port = port
        self._idle: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Streams]] = WeakKeyDictionary()

    async def call(self, kind: str, number: int) -> None:
        """One call; whoever cancels it closes its connection."""
        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"{kind} {number}\n".encode())
            answer = await reader.readline()
        except BaseException:
            writer.close()
            raise
        if answer:
            idle.append((reader, writer))
        else:
            writer.close()
        check(answer.decode())


class ThreadClients:
    """One blocking connection for each thread, with a timeout for each call."""

    def __init__(self, port: int, timeout_s: float) -> None:
        """Nothing is connected yet."""
        self._port, self._timeout_s = port, timeout_s
        self._own = threading.local()

    def call(self, kind: str, number: int) -> None:
        """One call; TimeoutError closes the connection."""
        connection: socket.socket | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = socket.create_connection(("127.0.0.1", self._port), self._timeout_s)
        try:
            connection.sendall(f"{kind} {number}\n".encode())
            answer = connection.recv(64)
            check(answer.decode())
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            connection.close()
            self._own.connection = None
            raise


class Control:
    """Orders to the dependency, and its book."""

    def __init__(self, streams: Streams) -> None:
        """See `connected`."""
        self._reader, self._writer = streams
        self._turn = asyncio.Lock()

    @classmethod
    async def connected(cls, port: int) -> Self:
        """Over a connection of its own."""
        return cls(await asyncio.open_connection("127.0.0.1", port, limit=_BOOK_BYTES))

    async def change(self, condition: Condition) -> float:
        """Be like this from now on; when that was."""
        return float((await self._do(do="change", condition=asdict(condition)))["at"])

    async def served(self) -> int:
        """How many different jobs were served so far."""
        return sum((await self._do(do="count"))["served"].values())

    async def calls(self) -> list[Call]:
        """Every call so far."""
        calls: list[Call] = []
        while page := (await self._do(do="read", **{"from": len(calls)}))["calls"]:
            calls += (Call(*line) for line in page)
        return calls

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _do(self, **order: Any) -> dict[str, Any]:
        async with asyncio.timeout(_ORDER_S), self._turn:
            self._writer.write(json.dumps(order).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await self._reader.readline())
        return answer
