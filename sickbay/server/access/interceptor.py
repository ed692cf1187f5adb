"""The interceptor of access control: every call over gRPC or in process passes it, but for health.

It runs inside the interceptor that translates errors, outside everything that counts, traces or serves the call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from inspect import isasyncgen, isawaitable
from typing import Any, Final

import grpc

from sickbay.domain.errors import SickbayError, Unauthenticated
from sickbay.ports.access import Credentials
from sickbay.server.access.caller import ADMITTED, CallContext, Caller
from sickbay.server.access.control import Access, Exempt
from sickbay.server.access.streams import OpenStreams
from sickbay.server.inprocess.context import Context as InProcessContext
from sickbay.server.interceptors.handlers import Behaviour, Continuation, Handler, behaviour_of
from sickbay.server.peers import endpoint_of
from sickbay.server.tls import names_over_grpc

_HEALTH: Final = "/grpc.health.v1.Health/"
_REFLECTION: Final = "/grpc.reflection."
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
"""RFC 6750, section 2.1."""


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Finds the principal of each call and refuses what it may not do; streams end when its credential does."""

    def __init__(self, access: Access) -> None:
        """`access` decides."""
        self._access = access
        self._streams = OpenStreams(access)

    async def admit(self, method: str, metadata: Any, context: Any) -> SickbayError | None:
        """Decide about a call over gRPC by its metadata and connection, before its message is received: why it is refused, or None.

        `context` is None if the connection is not known yet. Then a call without a token is decided about by the handler, since it may have
        a certificate.
        """
        if self._is_open(method):
            return None
        try:
            credentials = _credentials(metadata, context)
        except Unauthenticated as error:
            return self._access.failed(method, Credentials(peer=_address(context)), error)
        if context is None and not credentials.bearer:
            return None
        try:
            principal = await self._access.admit(method, credentials)
            ADMITTED.set(self._authorized(method, Caller(principal, credentials)))
        except SickbayError as error:
            return error
        return None

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap every handler."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or self._is_open(method):
            return handler
        if handler.response_streaming:
            return self._streaming(method, handler)
        behaviour = self._unary(method, behaviour_of(handler.unary_unary))
        return grpc.unary_unary_rpc_method_handler(behaviour, handler.request_deserializer, handler.response_serializer)

    def _is_open(self, method: str) -> bool:
        return method.startswith(_HEALTH) or (method.startswith(_REFLECTION) and Exempt.REFLECTION in self._access.exempt)

    def _unary(self, method: str, inner: Behaviour) -> Behaviour:
        async def call(request: Any, context: Any) -> Any:
            reply = inner(request, CallContext(context, await self._admit(method, context)))
            return await reply if isawaitable(reply) else reply

        return call

    def _streaming(self, method: str, handler: Handler) -> Handler:
        inner = behaviour_of(handler.stream_stream if handler.request_streaming else handler.unary_stream)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            caller = await self._admit(method, context)
            replies = inner(request, CallContext(context, caller))
            if not isasyncgen(replies):  # a handler that writes by itself
                await self._writing(replies, caller)
                return
            try:
                async with self._streams.hold(caller) as ended:
                    async for reply in _until(ended, replies):
                        yield reply
            finally:
                await replies.aclose()

        make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        return make(stream, handler.request_deserializer, handler.response_serializer)

    async def _writing(self, replies: Any, caller: Caller) -> None:
        if not isawaitable(replies):
            return
        async with self._streams.hold(caller) as ended:
            writing = asyncio.ensure_future(replies)
            try:
                await asyncio.wait({writing, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not writing.done():
                    ended.result()
                writing.result()
            finally:
                writing.cancel()
                await asyncio.wait([writing])

    async def _admit(self, method: str, context: Any) -> Caller:
        if isinstance(context, InProcessContext):
            if context.caller is None:
                raise Unauthenticated("this call has no caller")
            return self._authorized(method, context.caller)
        if (admitted := ADMITTED.get()) is not None:
            return admitted
        try:
            credentials = credentials_of(context)
        except Unauthenticated as error:
            raise self._access.failed(method, Credentials(peer=_address(context)), error) from None
        return self._authorized(method, Caller(await self._access.admit(method, credentials), credentials))

    def _authorized(self, method: str, caller: Caller) -> Caller:
        if not method.startswith(_REFLECTION):
            try:
                self._access.authorize(caller.principal, method)
            except SickbayError as error:
                self._access.refused(method, caller.credentials, caller.principal, error)
                raise
        return caller


async def _until(ended: asyncio.Future[None], replies: Any) -> AsyncIterator[Any]:
    """The replies, until `ended` has an error."""
    following: asyncio.Future[Any] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(replies, grpc.aio.EOF))
            await asyncio.wait({following, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():  # also if there always is a reply
                ended.result()
            reply = following.result()
            if reply is grpc.aio.EOF:
                return
            yield reply
    finally:
        if following is not None and not following.done():
            following.cancel()
            await asyncio.wait([following])
        if following is not None and not following.cancelled():
            following.exception()  # seen, though it is not sent


def credentials_of(context: Any) -> Credentials:
    """What the client of a gRPC call has sent."""
    return _credentials(context.invocation_metadata(), context)


def _credentials(metadata: Any, context: Any) -> Credentials:
    """A token that was sent decides; a certificate counts without one."""
    bearer = bearer_of(metadata)
    names = () if bearer or context is None else names_over_grpc(context.auth_context())
    return Credentials(bearer, names, _address(context))


def _address(context: Any) -> str:
    return "" if context is None else endpoint_of(context.peer())[0]


def bearer_of(metadata: Any) -> str:
    """The bearer token in the metadata; empty if there is none. Unauthenticated if there are several, or of another scheme."""
    found = [value for name, value in metadata or () if name == "authorization"]
    return parse_authorization(found)


def parse_authorization(values: list[str | bytes]) -> str:
    """The bearer token of the values of `authorization`, as in RFC 6750; empty without one."""
    if not values:
        return ""
    found = _BEARER.fullmatch(values[0].strip()) if len(values) == 1 and isinstance(values[0], str) else None
    if found is None:
        raise Unauthenticated("send one `authorization: Bearer ...` with an API key or a token; no other scheme is known here")
    return found[1]
