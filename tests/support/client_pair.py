"""Both clients behind one interface for tests: what is awaited is awaited, and what iterates is iterated to its end."""

from __future__ import annotations

import asyncio
import inspect
from operator import attrgetter
from typing import Any, Self

from sickbay.client import AsyncClient, Client


class Sleeps:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class BlockingPair:
    """`Client`; `sleeps` replaces its clock."""

    kind = Client

    def __init__(self, *args: Any, sleeps: Sleeps | None = None, **options: Any) -> None:
        self.client: Any = self.kind(*args, **options)
        if sleeps is not None:
            self.client._calls._now, self.client._calls._sleep = sleeps, self._sleeper(sleeps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """The answer, or the list of what it iterates over."""
        result = attrgetter(method)(self.client)(*args, **options)
        return list(result) if inspect.isgenerator(result) else result

    def some(self, count: int, method: str, *args: Any, **options: Any) -> list[Any]:
        """The first so many of what it iterates over; then it is closed."""
        iterator = attrgetter(method)(self.client)(*args, **options)
        found = [next(iterator) for _ in range(count)]
        iterator.close()
        return found

    def _sleeper(self, sleeps: Sleeps) -> Any:
        return sleeps.sleep


class AsyncPair(BlockingPair):
    """`AsyncClient`, in a loop of its own."""

    kind = AsyncClient

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        super().__init__(*args, **options)

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.client.close())
        self._runner.close()

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        return self._runner.run(self._call(method, *args, **options))

    def some(self, count: int, method: str, *args: Any, **options: Any) -> list[Any]:
        return self._runner.run(self._some(count, method, *args, **options))

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        result = attrgetter(method)(self.client)(*args, **options)
        return [one async for one in result] if inspect.isasyncgen(result) else await result

    async def _some(self, count: int, method: str, *args: Any, **options: Any) -> list[Any]:
        iterator = attrgetter(method)(self.client)(*args, **options)
        found = [await anext(iterator) for _ in range(count)]
        await iterator.aclose()
        return found

    def _sleeper(self, sleeps: Sleeps) -> Any:
        async def sleep(seconds: float) -> None:
            sleeps.sleep(seconds)

        return sleep


PAIRS = [BlockingPair, AsyncPair]
IDS = ["Client", "AsyncClient"]
