"""A channel without sockets: generated stubs call servicers of the same process, through the same interceptors as over the network.

    channel = InProcessChannel(services, interceptors)
    jobs = JobServiceStub(channel)
    reply = await jobs.GetJob(GetJobRequest(job_id=...))        # errors: grpc.aio.AioRpcError, as from a server

Messages are passed by reference: a servicer must not keep or change the request, nor a caller the reply.
Each call runs in a task of its own, with a copy of the caller's context variables.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias

import grpc

from sickbay.server.errors import INTERNAL_MESSAGE
from sickbay.server.inprocess.call import Replies, Serving, StreamCall, UnaryCall
from sickbay.server.inprocess.context import Context, Metadata, Status, metadata
from sickbay.server.interceptors.errors import ErrorInterceptor
from sickbay.server.interceptors.handlers import Handler
from sickbay.server.service import Service

_log = logging.getLogger(__name__)

Find: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Sent = Iterable[tuple[str, str | bytes]] | None


@dataclass(frozen=True, slots=True)
class _Details(grpc.HandlerCallDetails):
    method: str
    invocation_metadata: Metadata


class Registry:
    """Replaces a server in the generated `add_*Servicer_to_server` functions."""

    def __init__(self) -> None:
        """Start empty."""
        self._methods: dict[str, Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Called by generated code."""
        self._generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Called by generated code since grpcio 1.65; the same handlers by full name."""
        self._methods.update({f"/{service_name}/{name}": handler for name, handler in method_handlers.items()})

    async def find(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a method, None if there is none."""
        known = self._methods.get(details.method)
        if known is not None:
            return known
        return next((found for generic in self._generic if (found := generic.service(details)) is not None), None)


class InProcessChannel(grpc.aio.Channel):
    """Serves `services`; interceptors run in the order given, inside the one that translates errors, as in `GrpcServer`."""

    def __init__(self, services: Sequence[Service], interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        """Register the servicers."""
        registry = Registry()
        for service in services:
            service.add(service.servicer, registry)
        self._find: Find = registry.find
        for interceptor in reversed((ErrorInterceptor(), *interceptors)):
            self._find = partial(interceptor.intercept_service, self._find)
        self._serving: set[Serving] = set()
        self._closed = False

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Any:
        """A method with one reply; serializers are not needed."""
        return partial(self._call_unary, method)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Any:
        """A method with a stream of replies; serializers are not needed."""
        return partial(self._call_stream, method)

    def stream_unary(self, *_: Any, **__: Any) -> Any:
        """Not supported: creating a stub is allowed, calling it is an error."""
        return _no_request_streams

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        """Not supported: creating a stub is allowed, calling it is an error."""
        return _no_request_streams

    # The parameters are those of grpc's multi-callables; the ignored ones are about connections.
    def _call_unary(self, method: str, request: Any, *, timeout: float | None = None, metadata: Sent = None, **_: Any) -> UnaryCall:
        context = _context(timeout, metadata)
        return UnaryCall(self._start(self._serve(method, request, context)), context.deadline)

    def _call_stream(self, method: str, request: Any, *, timeout: float | None = None, metadata: Sent = None, **_: Any) -> StreamCall:
        replies = Replies()
        context = _context(timeout, metadata, replies.put)
        serving = self._start(self._serve(method, request, context))
        serving.add_done_callback(replies.end)
        return StreamCall(serving, context.deadline, replies)

    def _start(self, coroutine: Any) -> Serving:
        if self._closed:
            coroutine.close()
            raise grpc.aio.UsageError("Channel is closed.")
        serving: Serving = asyncio.get_running_loop().create_task(coroutine)
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        return serving

    async def _serve(self, method: str, request: Any, context: Context) -> tuple[Status, Any]:
        """Run one call to its end. Raises nothing but CancelledError."""
        if context.deadline is None:
            return await self._handle(method, request, context)
        try:
            async with asyncio.timeout_at(context.deadline):
                return await self._handle(method, request, context)
        except TimeoutError:
            return Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), None

    async def _handle(self, method: str, request: Any, context: Context) -> tuple[Status, Any]:
        reply, cancelled = None, False
        try:
            handler = await self._find(_Details(method, context.invocation_metadata()))
            if handler is None:
                return Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), None
            reply = await _run(handler, request, context)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            cancelled = True
            raise
        except Exception:  # noqa: BLE001 - a fault of an interceptor: those of handlers were translated
            _log.exception("%s failed outside its handler", method)
            return Status(grpc.StatusCode.UNKNOWN, INTERNAL_MESSAGE), None
        finally:
            context.finish(cancelled=cancelled)
        return context.status(), reply

    async def close(self, grace: float | None = None) -> None:
        """Reject new calls, give running ones `grace` seconds, cancel the rest and wait for their end. Calling it twice is harmless."""
        self._closed = True
        if self._serving and grace:
            await asyncio.wait(self._serving, timeout=grace)
        for serving in tuple(self._serving):
            serving.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002, FBT001, FBT002 - grpc's signature
        """Ready until closed."""
        return grpc.ChannelConnectivity.SHUTDOWN if self._closed else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """A state never changes by itself."""

    async def channel_ready(self) -> None:
        """Ready at once."""

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close without grace."""
        await self.close()


async def _run(handler: Handler, request: Any, context: Context) -> Any:
    if handler.unary_unary is not None:
        reply = handler.unary_unary(request, context)  # type: ignore[arg-type]  # ours is an asynchronous context
        return await reply if isawaitable(reply) else reply
    if handler.unary_stream is None:
        return _no_request_streams()
    stream: Any = handler.unary_stream(request, context)  # type: ignore[arg-type]  # the same
    async with aclosing(stream):  # now, not when the garbage collector comes by
        async for message in stream:
            await context.write(message)
    return None


def _context(timeout: float | None, sent: Sent, write: Callable[[Any], Awaitable[None]] | None = None) -> Context:
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    return Context(metadata(sent), deadline, write)


def _no_request_streams(*_: Any, **__: Any) -> NoReturn:
    raise grpc.aio.UsageError("the in-process channel serves calls with one request")
