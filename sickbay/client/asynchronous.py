"""Carries out calls with `grpc.aio`. Belongs to the event loop in which it is first used."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import grpc.aio

from sickbay.client.batches import Divider, Item, Outgoing
from sickbay.client.calls import Call, Pages, Rpc, Server, Watch, WatchState
from sickbay.client.errors import error_of, fault_of_call
from sickbay.client.job_calls import BATCH
from sickbay.client.jobs import BatchResult, NewJob
from sickbay.client.options import ClientOptions
from sickbay.client.retry import Retries
from sickbay.client.transport import in_words
from sickbay.contract.faults import Fault

T = TypeVar("T")


class AsynchronousDriver:
    """Opens a channel to each service when it is first called."""

    def __init__(
        self,
        options: ClientOptions,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        """`now` and `sleep` are in seconds."""
        self._options, self._now, self._sleep = options, now, sleep
        self._channels: dict[Server, grpc.aio.Channel] = {}
        self._methods: dict[Rpc, Any] = {}

    async def run(self, call: Call[T]) -> T:
        """The answer, or an exception of `errors`."""
        retries = Retries(self._now(), self._options.seconds(call.timeout), call.is_safe, call.room_s)
        while True:
            reply = await self._try(call.rpc, call.request, retries)
            if not isinstance(reply, Fault):
                return call.parse(reply)
            pause = retries.delay(reply, self._now())
            if pause is None:
                raise error_of(self._in_words(reply, call.rpc, retries.timeout))
            await self._sleep(pause)

    async def pages(self, pages: Pages[T]) -> AsyncGenerator[T, None]:
        """The items of a page are yielded before the next one is fetched."""
        token, seen = "", 0
        while pages.limit is None or seen < pages.limit:
            reply = await self.run(pages.page(token, seen))
            for item in pages.items(reply):
                yield item
                seen += 1
            token = reply.next_page_token
            if not token:
                return

    async def watch(self, watch: Watch[T]) -> AsyncGenerator[T, None]:
        """Until the service ends the stream; `timeout` and breaks as `Watch` says."""
        state = WatchState(watch, self._now())
        while True:
            call = self._method(watch.rpc)(state.request, timeout=state.left(self._now()), metadata=self._metadata())
            try:
                async for reply in call:
                    state.receive(reply)
                    yield watch.parse(reply)
            except grpc.RpcError as error:
                fault = self._in_words(fault_of_call(error), watch.rpc, watch.timeout)
            else:
                return
            finally:
                call.cancel()
            await self._sleep(state.pause(fault, self._now()))

    async def submit_many(
        self, jobs: Iterable[NewJob] | AsyncIterable[NewJob], in_flight: int, timeout_s: float | None, room_s: float, *, own_keys: bool
    ) -> AsyncGenerator[BatchResult, None]:
        """At most `in_flight` calls at once; their results are yielded before more of `jobs` is read."""
        window: deque[asyncio.Task[Sequence[BatchResult]]] = deque()
        failed: Exception | None = None
        try:
            async with aclosing(_divide(jobs, own_keys=own_keys)) as batches:
                while True:
                    try:
                        items = await anext(batches, None)
                    except Exception as error:  # noqa: BLE001 - of the caller's iterable: raised below, after the results of what was sent
                        items, failed = None, error
                    if items is None:
                        break
                    window.append(asyncio.create_task(self._send(items, timeout_s, room_s)))
                    if len(window) == in_flight:
                        for result in await window.popleft():
                            yield result
            while window:
                for result in await window.popleft():
                    yield result
            if failed is not None:
                raise failed
        finally:
            for task in window:
                task.cancel()

    async def close(self) -> None:
        """Close the channels; calls that are in flight fail, later ones open new ones."""
        channels, self._channels, self._methods = self._channels, {}, {}
        for channel in channels.values():
            await channel.close()

    async def _send(self, items: Sequence[Item], timeout_s: float | None, room_s: float) -> Sequence[BatchResult]:
        """Submit a batch, and again what may succeed later, until the deadline."""
        retries = Retries(self._now(), self._options.seconds(timeout_s), is_safe=all(item.is_safe for item in items), room_s=room_s)
        outgoing = Outgoing(items, retries)
        batch = outgoing.batch
        while batch.due:
            reply = await self._try(BATCH, batch.request(), retries)
            if isinstance(reply, Fault):
                batch.fail(reply, self._now())
            else:
                batch.receive(reply, self._now())
            pause = batch.pause(self._now())
            if batch.due:
                await self._sleep(pause)
        return list(outgoing.results(lambda fault: self._in_words(fault, BATCH, retries.timeout)))

    async def _try(self, rpc: Rpc, request: Any, retries: Retries) -> Any:
        """The reply, or the fault."""
        try:
            return await self._method(rpc)(request, timeout=retries.left(self._now()), metadata=self._metadata())
        except grpc.RpcError as error:
            return fault_of_call(error)

    def _method(self, rpc: Rpc) -> Any:
        found = self._methods.get(rpc)
        if found is None:
            if rpc.server not in self._channels:
                self._channels[rpc.server] = self._options.transport.open(self._options.address(rpc.server), grpc.aio)
            found = self._methods[rpc] = getattr(rpc.stub(self._channels[rpc.server]), rpc.method)
        return found

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return self._options.transport.metadata()

    def _in_words(self, fault: Fault, rpc: Rpc, timeout: float | None) -> Fault:
        return in_words(fault, rpc.server.value, self._options.address(rpc.server), timeout)


async def _divide(jobs: Iterable[NewJob] | AsyncIterable[NewJob], *, own_keys: bool) -> AsyncGenerator[Sequence[Item], None]:
    """The jobs in batches; as `batches.divide`."""
    divider: Divider[Item] = Divider()
    try:
        async for job in _each(jobs):
            item = Item.of(job, own_key=own_keys)
            if full := divider.add(item, item.size):
                yield full
    except Exception:
        if rest := divider.rest():
            yield rest
        raise
    if rest := divider.rest():
        yield rest


async def _each(jobs: Iterable[NewJob] | AsyncIterable[NewJob]) -> AsyncIterator[NewJob]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        for job in jobs:
            yield job
