"""Limits the calls of a gRPC port: their number, and how long each may wait for its client.

grpc's core has neither limit. A call whose message has not arrived, or whose response is not read, is *stalled* after a moment: it has a
timeout, and when the number of calls is at its limit, the one stalled longest is ended for a new one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isasyncgen, isawaitable
from typing import Any, Final

import grpc

from sickbay.domain.errors import ResourceExhausted, SickbayError
from sickbay.domain.limits import Limits
from sickbay.server.access.caller import watcher
from sickbay.server.errors import fault_of, rich_status
from sickbay.server.grpc.meter import GrpcMeter, Reason
from sickbay.server.grpc.reach import context_of_call
from sickbay.server.grpc.rejections import (
    TOO_LARGE,
    abort_call,
    calls_handler,
    metadata_bytes,
    metadata_handler,
    refusal_handler,
    reject_message,
)
from sickbay.server.interceptors.handlers import Behaviour, Context, Continuation, Handler, behaviour_of
from sickbay.server.peers import Endpoint, endpoint_of, peer_of
from sickbay.server.watches import Watches

STALLED_S: Final = 0.1
"""A call that waits for its client for less than this is not stalled."""

_size: ContextVar[int] = ContextVar("size", default=0)
Task = asyncio.Task[Any]
Admit = Callable[[str, Any, Any], Awaitable[SickbayError | None]]
"""Decides about a call by its method, metadata and connection (a context, None if not known), before its message: why it is refused."""


class CallGuard(grpc.aio.ServerInterceptor):
    """The outermost interceptor.

    `on_stall` is called when a call becomes stalled, `on_message` for each complete message, `on_unreceived` for each call that ended at
    once without one, `cut` to end a connection. `open` has the calls and watches of each connection whose messages have arrived.
    """

    def __init__(self, limits: Limits, watches: Watches, meter: GrpcMeter, admit: Admit | None = None) -> None:
        """Start without calls; without `admit` every caller is admitted."""
        self._limits, self._watches, self._meter, self._admitted = limits, watches, meter, admit
        self._stalled: dict[Task, Reason] = {}
        self._timers: dict[Task, asyncio.TimerHandle] = {}
        self._unreceived: dict[Task, str] = {}
        self.open: Counter[Endpoint] = Counter()
        self._ending: set[asyncio.Future[None]] = set()
        self.calls = 0
        self._answered: dict[Task, Endpoint] = {}
        self.on_stall: Callable[[], None] = lambda: None
        self.cut: Callable[[Endpoint], None] = lambda _: None
        self.on_message: Callable[[Endpoint, int], None] = lambda *_: None
        self.on_unreceived: Callable[[Endpoint], None] = lambda _: None

    @property
    def is_received(self) -> bool:
        """Whether the message of a stalled call is still incomplete."""
        return Reason.BODY_TIMEOUT in self._stalled.values()

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Admit or reject the call; from here on its message is awaited."""
        handler = await continuation(handler_call_details)
        task = asyncio.current_task()
        if task is None or (handler is None and self._admitted is None):
            return handler
        if metadata_bytes(handler_call_details.invocation_metadata) > self._limits.metadata_bytes:
            self._meter.count_refusal(Reason.METADATA)
            return metadata_handler(self._limits.metadata_bytes)
        if self._admitted is None:
            return self._guarded(handler, task, None)
        context = context_of_call(task)
        refusal = await self._admitted(handler_call_details.method, handler_call_details.invocation_metadata, context)
        return self._guarded(handler, task, context) if refusal is None else refusal_handler(refusal)

    def _guarded(self, handler: Handler | None, task: Task, context: Any) -> Handler | None:
        if handler is None:
            return None
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream_stream(handler), handler.request_deserializer, handler.response_serializer
            )
        if not handler.response_streaming and not self._admit(task):
            return calls_handler(self._limits.calls)
        self._wait(task, Reason.BODY_TIMEOUT)
        context = context_of_call(task) if context is None else context
        if context is not None:
            self._unreceived[task] = str(context.peer())
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
        self._unreceived.pop(task, None)
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
        ending = asyncio.ensure_future(abort_call(task, reason))
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
        peer = self._unreceived.pop(task, None)
        if peer is not None:
            self.on_unreceived(endpoint_of(peer))

    def _begin(self, endpoint: Endpoint) -> None:
        """A call or watch of this connection begins, until `_finish`."""
        self.on_message(endpoint, _size.get())
        self.open[endpoint] += 1
        if self.open[endpoint] == self._limits.streams:
            self._meter.count_refusal(Reason.STREAMS)

    def _finish(self, endpoint: Endpoint) -> None:
        self.open[endpoint] -= 1
        if not self.open[endpoint]:
            del self.open[endpoint]

    def _deserializer(self, inner: Callable[[bytes], Any] | None, task: Task) -> Callable[[bytes], Any]:
        def deserialize(data: bytes) -> Any:
            self._end_wait(task)
            self._unreceived.pop(task, None)
            _size.set(len(data))
            if len(data) > self._limits.message_bytes:
                self._meter.count_refusal(Reason.MESSAGE)
                return TOO_LARGE
            return inner(data) if inner else data

        return deserialize

    def _unary_unary(self, handler: Handler, task: Task) -> Behaviour:
        inner = behaviour_of(handler.unary_unary)

        async def answer(request: Any, context: Context) -> Any:
            endpoint = endpoint_of(context.peer())
            self._begin(endpoint)
            try:
                if request is TOO_LARGE:
                    await reject_message(context, _size.get(), self._limits.message_bytes)
                reply = inner(request, context)
                return await reply if isawaitable(reply) else reply
            finally:
                self._finish(endpoint)
                self._answered[task] = endpoint
                self._wait(task, Reason.UNREAD)

        return answer

    def _unary_stream(self, handler: Handler) -> Behaviour:
        inner = behaviour_of(handler.unary_stream)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            endpoint = endpoint_of(context.peer())
            if request is TOO_LARGE:
                await reject_message(context, _size.get(), self._limits.message_bytes)
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
        self._begin(endpoint)
        try:
            with self._watches.hold(peer_of(endpoint[0]), watcher()):
                if isasyncgen(replies):
                    async for reply in replies:
                        with self._being_read(endpoint):
                            yield reply
                elif isawaitable(replies):  # a handler that writes by itself
                    await replies
        except ResourceExhausted as error:
            await context.abort_with_status(rich_status(fault_of(error)))
        finally:
            self._finish(endpoint)
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
