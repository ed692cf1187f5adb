"""The fake dependency as a process: `python -m benchmarks.outage.dependency`; it prints its port and ends with its standard input.

A call is one line, `email 17` (the job's type and number), its answer one word in a line (`service.py`). One call at a time on a
connection, which stays open. A line of JSON is an order (`Desk.do`) and is answered with one. Every call is remembered with the times at
which it came and ended, by the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from typing import Any, Final, cast

import uvloop

from benchmarks.outage.service import NEVER, Condition, Service
from benchmarks.outage.trace import LEFT

PAGE: Final = 10_000
"""Calls in one answer."""


class Desk:
    """The service, and the book of its calls."""

    def __init__(self, service: Service) -> None:
        """Nothing has come yet."""
        self.service = service
        self.calls: list[list[Any]] = []
        self._served: defaultdict[str, set[int]] = defaultdict(set)

    def begin(self, kind: str, number: int, now: float) -> list[Any]:
        """A call has come; its line in the book, `[came, ended, type, number, word]`."""
        call = [now, None, kind, number, ""]
        self.calls.append(call)
        return call

    def end(self, call: list[Any], word: str, now: float) -> None:
        """It is answered, or its caller has left."""
        call[1], call[4] = now, word
        if word == "ok":
            self._served[call[2]].add(call[3])

    def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """`change` the condition, `count` the jobs served so far, or `read` the book from a place on."""
        if order["do"] == "change":
            now = time.monotonic()
            self.service.change(Condition(**order["condition"]), now)
            return {"at": now}
        if order["do"] == "count":
            return {"served": {kind: len(numbers) for kind, numbers in self._served.items()}}
        return {"calls": self.calls[order["from"] : order["from"] + PAGE]}


class Connection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, desk: Desk) -> None:
        """It is open."""
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._pending: list[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's call."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waited has given up."""
        if self._pending is not None:
            self._desk.end(self._pending, LEFT, time.monotonic())
            self._pending = None

    def data_received(self, data: bytes) -> None:
        """Asyncio's call."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self._transport.write(json.dumps(self._desk.do(json.loads(line))).encode() + b"\n")
            else:
                self._call(line)

    def _call(self, line: bytes) -> None:
        kind, number = line.decode().split()
        now = time.monotonic()
        self._pending = call = self._desk.begin(kind, int(number), now)
        at, word = self._desk.service.call(now)
        if at <= now:
            self._answer(call, word)
        elif at != NEVER:
            self._loop.call_later(at - now, self._answer, call, word)

    def _answer(self, call: list[Any], word: str) -> None:
        if self._pending is call:
            self._pending = None
            self._desk.end(call, word, time.monotonic())
            self._transport.write(word.encode() + b"\n")


async def serve(capacity: float, seed: int) -> None:
    """Until the standard input ends."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    desk = Desk(Service(Condition(capacity), seed, time.monotonic()))
    server = await loop.create_server(lambda: Connection(desk), "127.0.0.1", 0, backlog=4_096)
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=float, default=90.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    uvloop.run(serve(options.capacity, options.seed))
