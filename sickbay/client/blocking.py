"""Carries out calls with gRPC's synchronous channels. May be used by several threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from sickbay.client.batches import Item, Outgoing, divide
from sickbay.client.calls import Call, Pages, Rpc, Server, Watch, WatchState
from sickbay.client.errors import error_of, fault_of_call
from sickbay.client.job_calls import BATCH
from sickbay.client.jobs import BatchResult, NewJob
from sickbay.client.options import ClientOptions
from sickbay.client.retry import Retries
from sickbay.client.transport import in_words
from sickbay.contract.faults import Fault

T = TypeVar("T")


class BlockingDriver:
    """Opens a channel to each service when it is first called."""

    def __init__(
        self, options: ClientOptions, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], Any] = time.sleep
    ) -> None:
        """`now` and `sleep` are in seconds."""
        self._options, self._now, self._sleep = options, now, sleep
        self._channels: dict[Server, grpc.Channel] = {}
        self._methods: dict[Rpc, Any] = {}
        self._opening = threading.Lock()

    def run(self, call: Call[T]) -> T:
        """The answer, or an exception of `errors`."""
        retries = Retries(self._now(), self._options.seconds(call.timeout), call.is_safe, call.room_s)
        while True:
            reply = self._try(call.rpc, call.request, retries)
            if not isinstance(reply, Fault):
                return call.parse(reply)
            pause = retries.delay(reply, self._now())
            if pause is None:
                raise error_of(self._in_words(reply, call.rpc, retries.timeout))
            self._sleep(pause)

    def pages(self, pages: Pages[T]) -> Generator[T, None, None]:
        """The items of a page are yielded before the next one is fetched."""
        token, seen = "", 0
        while pages.limit is None or seen < pages.limit:
            reply = self.run(pages.page(token, seen))
            for item in pages.items(reply):
                yield item
                seen += 1
            token = reply.next_page_token
            if not token:
                return

    def watch(self, watch: Watch[T]) -> Generator[T, None, None]:
        """Until the service ends the stream; `timeout` and breaks as `Watch` says."""
        state = WatchState(watch, self._now())
        while True:
            call = self._method(watch.rpc)(state.request, timeout=state.left(self._now()), metadata=self._metadata())
            try:
                for reply in call:
                    state.receive(reply)
                    yield watch.parse(reply)
            except grpc.RpcError as error:
                fault = self._in_words(fault_of_call(error), watch.rpc, watch.timeout)
            else:
                return
            finally:
                call.cancel()
            self._sleep(state.pause(fault, self._now()))

    def submit_many(
        self, jobs: Iterable[NewJob], in_flight: int, timeout: float | None, room_s: float, *, own_keys: bool
    ) -> Generator[BatchResult, None, None]:
        """At most `in_flight` calls at once; their results are yielded before more of `jobs` is read."""
        pool, stopped = ThreadPoolExecutor(in_flight, "sickbay-client"), threading.Event()
        window: deque[Future[Sequence[BatchResult]]] = deque()
        failed: Exception | None = None
        batches = divide(jobs, own_keys=own_keys)
        try:
            while True:
                try:
                    items = next(batches, None)
                except Exception as error:  # noqa: BLE001 - of the caller's iterable: raised below, after the results of what was sent
                    items, failed = None, error
                if items is None:
                    break
                window.append(pool.submit(self._send, items, timeout, room_s, stopped))
                if len(window) == in_flight:
                    yield from window.popleft().result()
            while window:
                yield from window.popleft().result()
            if failed is not None:
                raise failed
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Close the channels; calls that are in flight fail, later ones open new ones."""
        with self._opening:
            channels, self._channels, self._methods = self._channels, {}, {}
        for channel in channels.values():
            channel.close()

    def _send(self, items: Sequence[Item], timeout: float | None, room_s: float, stopped: threading.Event) -> Sequence[BatchResult]:
        """Submit a batch, and again what may succeed later, until the deadline."""
        retries = Retries(self._now(), self._options.seconds(timeout), is_safe=all(item.is_safe for item in items), room_s=room_s)
        outgoing = Outgoing(items, retries)
        batch = outgoing.batch
        while batch.due:
            reply = self._try(BATCH, batch.request(), retries)
            if isinstance(reply, Fault):
                batch.fail(reply, self._now())
            else:
                batch.receive(reply, self._now())
            pause = batch.pause(self._now())
            if batch.due and stopped.wait(pause):
                break
        return list(outgoing.results(lambda fault: self._in_words(fault, BATCH, retries.timeout)))

    def _try(self, rpc: Rpc, request: Any, retries: Retries) -> Any:
        """The reply, or the fault."""
        try:
            return self._method(rpc)(request, timeout=retries.left(self._now()), metadata=self._metadata())
        except grpc.RpcError as error:
            return fault_of_call(error)

    def _method(self, rpc: Rpc) -> Any:
        found = self._methods.get(rpc)
        if found is None:
            with self._opening:
                if rpc.server not in self._channels:
                    self._channels[rpc.server] = self._options.transport.open(self._options.address(rpc.server))
                found = self._methods[rpc] = getattr(rpc.stub(self._channels[rpc.server]), rpc.method)
        return found

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return self._options.transport.metadata()

    def _in_words(self, fault: Fault, rpc: Rpc, timeout: float | None) -> Fault:
        return in_words(fault, rpc.server.value, self._options.address(rpc.server), timeout)
