"""The interceptor that turns errors into statuses; servers and in-process channels put it outermost by themselves.

Servicers just raise. What is not a SickbayError is logged with its traceback and becomes INTERNAL without a word of its text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from inspect import isasyncgen, isawaitable
from typing import Any, NoReturn, TypeAlias

import grpc

from sickbay.errors import SickbayError
from sickbay.rpc.errors import INTERNAL, Fault, fault_of, rich_status

_log = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a class that takes parameters only for type checkers
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Any], Any]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Translates what unary and server-streaming handlers raise. An abort by the handler itself and a cancellation pass."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the handler; client-streaming ones (only reflection has one) stay as they are."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        method = handler_call_details.method
        if handler.response_streaming:
            return rebuilt(handler, grpc.unary_stream_rpc_method_handler, _streaming(method, behaviour_of(handler.unary_stream)))
        return rebuilt(handler, grpc.unary_unary_rpc_method_handler, _unary(method, behaviour_of(handler.unary_unary)))


def behaviour_of(function: Behaviour | None) -> Behaviour:
    """The function that a handler has for its kind of call."""
    if function is None:
        msg = "the handler has no function for its own kind"
        raise TypeError(msg)
    return function


def rebuilt(handler: Handler, make: Callable[..., Handler], behaviour: Behaviour) -> Handler:
    """The handler with another function."""
    return make(behaviour, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer)


def _unary(method: str, inner: Behaviour) -> Behaviour:
    async def call(request: Any, context: Context) -> Any:
        try:
            reply = inner(request, context)
            return await reply if isawaitable(reply) else reply
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the one place that judges every error
            return await _refuse(method, context, error)

    return call


def _streaming(method: str, inner: Behaviour) -> Behaviour:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            replies = inner(request, context)
            if isasyncgen(replies):
                async with aclosing(replies):
                    async for reply in replies:
                        yield reply
            elif isawaitable(replies):  # a handler that uses context.write
                await replies
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the one place that judges every error
            await _refuse(method, context, error)

    return stream


async def _refuse(method: str, context: Context, error: BaseException) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError) or _is_cancelled(error):
        raise error
    await context.abort_with_status(rich_status(_judged(method, context, error)))


def _is_cancelled(error: BaseException) -> bool:
    """Whether we are being cancelled; a CancelledError of the handler's own making would leave the client without any answer."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _judged(method: str, context: Context, error: BaseException) -> Fault:
    if isinstance(error, NotImplementedError) and context.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Fault(grpc.StatusCode.UNIMPLEMENTED, context.details())  # a generated servicer's method that nobody wrote
    fault = fault_of(error)
    if fault is INTERNAL:
        _log.error("%s failed", method, exc_info=error)
    elif isinstance(error, SickbayError) and error.__cause__ is not None:
        _log.info("%s: %s (%s: %s)", method, error, type(error.__cause__).__name__, error.__cause__)
    return fault
