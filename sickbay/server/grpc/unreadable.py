"""The interceptor that rejects requests that cannot be decoded, with INVALID_ARGUMENT and the reason.

grpcio would turn the error of a deserializer into UNKNOWN, with a traceback in the log for each. This interceptor is the innermost one, so
that such calls are counted, traced and translated like any other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.server.interceptors.handlers import Behaviour, Context, Continuation, Handler, behaviour_of

_TOO_DEEP: Final = "MaxDepth"
_NOT_UTF8: Final = "UTF-8"

Read = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Replaces a request that cannot be decoded."""

    error: InvalidArgument


class ReadableInterceptor(grpc.aio.ServerInterceptor):
    """Passes only requests to a handler that can be decoded."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the handler and the deserializer of its requests."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        make, behaviour = _guarded(handler)
        read = partial(_read, handler.request_deserializer)
        return make(behaviour, request_deserializer=read, response_serializer=handler.response_serializer)


def _guarded(handler: Handler) -> tuple[Callable[..., Handler], Behaviour]:
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler, _many(behaviour_of(handler.stream_stream))
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler, _one(behaviour_of(handler.unary_stream))
    return grpc.unary_unary_rpc_method_handler, _one(behaviour_of(handler.unary_unary))


def _one(inner: Behaviour) -> Behaviour:
    def call(request: Any, context: Context) -> Any:
        if isinstance(request, _Unreadable):
            raise request.error
        return inner(request, context)

    return call


def _many(inner: Behaviour) -> Behaviour:
    async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async with aclosing(inner(_readable(requests), context)) as replies:
            async for reply in replies:
                yield reply

    return stream


async def _readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, _Unreadable):
            raise request.error
        yield request


def _read(read: Read, data: bytes) -> Any:
    try:
        return read(data)
    except DecodeError as error:
        return _Unreadable(_advice(str(error)))


def _advice(problem: str) -> InvalidArgument:
    """The error for clients, without protobuf's own text."""
    if _TOO_DEEP in problem:
        message = (
            "the request is nested too deep for protobuf, which reads 100 messages inside each other (in a Struct about 30 objects or "
            "45 lists); send the content as payload_json, which may have 200 levels"
        )
        return InvalidArgument(message, ErrorReason.INVALID_PAYLOAD)
    if _NOT_UTF8 in problem:
        return InvalidArgument("a text in the request is not UTF-8; send binary data in another form, for example base64")
    return InvalidArgument("the request is not a valid message of this method; generate it from the contract's .proto files")
