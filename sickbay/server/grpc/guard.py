"""Limits the calls of a gRPC port: their number, and how long each may wait for its client.

grpc's core has neither limit. A call whose message has not arrived, or whose response is not read, is *stalled* after a moment: it has a
timeout, and when the number of calls is at its limit, the one stalled longest is ended for a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from inspect import isasyncgen, isawaitable
from typing import Any, Final

import grpc

from sickbay.domain.errors import ErrorReason, ResourceExhausted
from sickbay.domain.limits import Limits
from sickbay.server.errors import fault_of, rich_status
from sickbay.server.grpc.meter import GrpcMeter, Reason
from sickbay.server.grpc.reach import context_of
from sickbay.server.interceptors.handlers import Behaviour, Context, Continuation, Handler, behaviour_of
from sickbay.server.peers import Endpoint, endpoint_of, peer_of
from sickbay.server.watches import Watches

STALLED_S: Final = 0.1
"""A call that waits for its client for less than this is not stalled."""

_MESSAGES: Final = {
    Reason.BODY_TIMEOUT: "timed out waiting for the message of this call (GRPC_BODY_TIMEOUT)",
    Reason.UNREAD: "timed out waiting for the client to read the response of this call (GRPC_WRITE_TIMEOUT)",
    Reason.OLDEST: "too many calls (GRPC_MAX_CALLS), and this one had waited longest for its client",
}

_size: ContextVar[int] = ContextVar("size", default=0)
Task = asyncio.Task[Any]


class CallGuard(grpc.aio.ServerInterceptor):
    """The outermost interceptor.

    `on_stall` is called when a call becomes stalled, `on_message` for each complete message, `cut` to end a connection.
    """

    def __init__(self, limits: Limits, watches: Watches, meter: GrpcMeter) -> None:
        """Start without calls."""
        self._limits, self._watches, self._meter = limits, watches, meter
        self._stalled: dict[Task, Reason] = {}
        self._timers: dict[Task, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Future[None]] = set()
        self.calls = 0
        self._answered: dict[Task, Endpoint] = {}
        self.on_stall: Callable[[], None] = lambda: None
        self.cut: Callable[[Endpoint], None] = lambda _: None
        self.on_message: Callable[[Endpoint, int], None] = lambda *_: None

    @property
    def is_received(self) -> bool:
        """Whether the message of a stalled call is still incomplete."""
        return Reason.BODY_TIMEOUT in self._stalled.values()

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Admit or reject the call; from here on its message is awaited."""
        handler = await continuation(handler_call_details)
        task = asyncio.current_task()
        if handler is None or task is None:
            return handler
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream_stream(handler), handler.request_deserializer, handler.response_serializer
            )
        if not handler.response_streaming and not self._admit(task):
            return _rejecting_handler(self._limits.calls)
        self._wait(task, Reason.BODY_TIMEOUT)
        task.add_done_callback(self._forget)
        receive = self._deserializer(handler.request_deserializer, task)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._unary_stream(handler), receive, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(self._unary_unary(handler, task), receive, handler.response_serializer)

    def _admit(self, task: Task) -> bool:
        if self.calls >= self._limits.calls and not self._make_room():
            self._meter.count_refusal(Reason.CALLS)
            return False
        self.calls += 1
        task.add_done_callback(self._on_done)
        return True

    def _on_done(self, _: Task) -> None:
        self.calls -= 1

    def _make_room(self) -> bool:
        oldest = next(iter(self._stalled), None)
        if oldest is not None:
            self._end(oldest, Reason.OLDEST)
        return oldest is not None

    def _wait(self, task: Task, reason: Reason) -> None:
        """Start the timeout of the client."""
        self._timers[task] = asyncio.get_running_loop().call_later(STALLED_S, self._stall, task, reason)

    def _stall(self, task: Task, reason: Reason) -> None:
        most = self._limits.body_s if reason is Reason.BODY_TIMEOUT else self._limits.write_s
        self._stalled[task] = reason
        self._timers[task] = asyncio.get_running_loop().call_later(max(0.0, most - STALLED_S), self._end, task, reason)
        self.on_stall()

    def _end(self, task: Task, reason: Reason) -> None:
        """End a call: one whose message was not received gets an error, of one that was answered only the connection can be closed."""
        self._end_wait(task)
        self._meter.count_refusal(reason)
        endpoint = self._answered.get(task)
        if endpoint is not None:
            self.cut(endpoint)
            return
        ending = asyncio.ensure_future(_abort(task, reason))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _end_wait(self, task: Task) -> None:
        self._stalled.pop(task, None)
        timer = self._timers.pop(task, None)
        if timer is not None:
            timer.cancel()

    def _forget(self, task: Task) -> None:
        self._end_wait(task)
        self._answered.pop(task, None)

    def _deserializer(self, inner: Callable[[bytes], Any] | None, task: Task) -> Callable[[bytes], Any]:
        def deserialize(data: bytes) -> Any:
            self._end_wait(task)
            _size.set(len(data))
            return inner(data) if inner else data

        return deserialize

    def _unary_unary(self, handler: Handler, task: Task) -> Behaviour:
        inner = behaviour_of(handler.unary_unary)

        async def answer(request: Any, context: Context) -> Any:
            endpoint = endpoint_of(context.peer())
            self.on_message(endpoint, _size.get())
            try:
                reply = inner(request, context)
                return await reply if isawaitable(reply) else reply
            finally:
                self._answered[task] = endpoint
                self._wait(task, Reason.UNREAD)

        return answer

    def _unary_stream(self, handler: Handler) -> Behaviour:
        inner = behaviour_of(handler.unary_stream)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            endpoint = endpoint_of(context.peer())
            self.on_message(endpoint, _size.get())
            async for reply in self._watch(inner(request, context), endpoint, context):
                yield reply

        return stream

    def _stream_stream(self, handler: Handler) -> Behaviour:
        inner = behaviour_of(handler.stream_stream)

        async def stream(requests: Any, context: Context) -> AsyncIterator[Any]:
            async for reply in self._watch(inner(requests, context), endpoint_of(context.peer()), context):
                yield reply

        return stream

    async def _watch(self, replies: Any, endpoint: Endpoint, context: Context) -> AsyncIterator[Any]:
        try:
            with self._watches.hold(peer_of(endpoint[0])):
                if isasyncgen(replies):
                    async for reply in replies:
                        with self._being_read(endpoint):
                            yield reply
                elif isawaitable(replies):  # a handler that writes by itself
                    await replies
        except ResourceExhausted as error:
            await context.abort_with_status(rich_status(fault_of(error)))
        finally:
            if isasyncgen(replies):
                await replies.aclose()

    @contextmanager
    def _being_read(self, endpoint: Endpoint) -> Iterator[None]:
        """A client that reads nothing of a watch for this long loses its connection: there is no other way past what it has not read."""
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []

        def start() -> None:
            timers[:] = [loop.call_later(self._limits.write_s, unread)]

        def unread() -> None:
            self._meter.count_refusal(Reason.UNREAD)
            self.cut(endpoint)
            start()  # in case the connection is too new to be found

        start()
        try:
            yield
        finally:
            timers[0].cancel()


async def _abort(task: Task, reason: Reason) -> None:
    """Abort a call from outside: its client gets the reason, and core frees its buffers."""
    context = context_of(task)
    task.cancel()
    await asyncio.wait([task])
    if context is not None:
        with suppress(grpc.aio.AbortError, grpc.aio.BaseError, asyncio.InvalidStateError, RuntimeError):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _MESSAGES[reason])


def _rejecting_handler(most: int) -> Handler:
    """A handler that rejects without waiting for the message, which a handler of one request would do."""
    error = ResourceExhausted(
        f"too many calls: {most:,} are in progress (GRPC_MAX_CALLS); try again in a moment", ErrorReason.TOO_MANY_CALLS
    )

    async def reject(_: Any, context: Context) -> None:
        await context.abort_with_status(rich_status(fault_of(error)))

    return grpc.stream_stream_rpc_method_handler(reject)
