"""Helpers for interceptors: types, and wrapping of handlers, whether they return one reply or a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from inspect import isasyncgen, isawaitable
from typing import Any, TypeAlias

import grpc

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a class that takes parameters only for type checkers
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Any], Any]
Wrapper = Callable[[Context], AbstractAsyncContextManager[object]]


def wrap_handler(handler: Handler | None, wrapper: Wrapper) -> Handler | None:
    """The handler, with each call inside a context of `wrapper`, a stream from its first step to its last.

    None is returned unchanged.
    """
    if handler is None:
        return None
    if handler.request_streaming:
        behaviour = _streaming(behaviour_of(handler.stream_stream), wrapper)
        return _rebuilt(handler, grpc.stream_stream_rpc_method_handler, behaviour)
    if handler.response_streaming:
        return with_stream(handler, _streaming(behaviour_of(handler.unary_stream), wrapper))
    return _rebuilt(handler, grpc.unary_unary_rpc_method_handler, _unary(behaviour_of(handler.unary_unary), wrapper))


def with_stream(handler: Handler, behaviour: Behaviour) -> Handler:
    """The handler of a server stream with another behaviour."""
    return _rebuilt(handler, grpc.unary_stream_rpc_method_handler, behaviour)


def behaviour_of(function: Behaviour | None) -> Behaviour:
    """The behaviour of a handler, which must not be None."""
    if function is None:
        msg = "the handler has no function for its own kind"
        raise TypeError(msg)
    return function


def _rebuilt(handler: Handler, make: Callable[..., Handler], behaviour: Behaviour) -> Handler:
    return make(behaviour, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer)


def _unary(inner: Behaviour, wrapper: Wrapper) -> Behaviour:
    async def call(request: Any, context: Context) -> Any:
        async with wrapper(context):
            reply = inner(request, context)
            return await reply if isawaitable(reply) else reply

    return call


def _streaming(inner: Behaviour, wrapper: Wrapper) -> Behaviour:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with wrapper(context):
            replies = inner(request, context)
            if isasyncgen(replies):
                async with aclosing(replies):
                    async for reply in replies:
                        yield reply
            elif isawaitable(replies):  # a handler that uses context.write
                await replies

    return stream
