"""The interceptor of the audit log: inside access control, outside everything that counts, traces or serves the call.

An action runs to its end in a task of its own, so that its entry gets the true result although its client has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from inspect import isasyncgen, isawaitable
from typing import Any

import grpc

from sickbay.contract.access import RULES
from sickbay.domain.errors import PermissionDenied
from sickbay.server.access.caller import caller_of
from sickbay.server.audit.auditor import Auditor
from sickbay.server.audit.notes import AuditedContext
from sickbay.server.interceptors.handlers import Behaviour, Continuation, Handler, behaviour_of


class AuditInterceptor(grpc.aio.ServerInterceptor):
    """Has actions written down, and calls that a servicer itself refuses. Other calls cost nothing without access control."""

    def __init__(self, auditor: Auditor, *, has_access: bool) -> None:
        """`has_access`: calls may be refused."""
        self._auditor, self._has_access = auditor, has_access

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the handlers of actions; with access control also those of other calls with one reply."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        rule = RULES.get(method)
        if handler is None or rule is None:
            return handler
        if handler.request_streaming or handler.response_streaming:
            return self._stream(method, handler) if rule.is_action else handler
        if not rule.is_action and not self._has_access:
            return handler
        inner = behaviour_of(handler.unary_unary)
        behaviour = self._action(method, inner) if rule.is_action else self._other(method, inner)
        return grpc.unary_unary_rpc_method_handler(behaviour, handler.request_deserializer, handler.response_serializer)

    def _action(self, method: str, inner: Behaviour) -> Behaviour:
        async def act(request: Any, context: Any) -> Any:
            audited = AuditedContext(context, caller_of(context))
            entry = await self._auditor.begin(method, request, audited)
            try:
                reply = inner(request, audited)
                reply = await reply if isawaitable(reply) else reply
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError):  # the service is stopping
                    self._auditor.end_soon(entry, audited.notes, error, audited)
                else:
                    await self._auditor.end(entry, audited.notes, error=error, context=audited)
                raise
            await self._auditor.end(entry, audited.notes, reply, context=audited)
            return reply

        async def call(request: Any, context: Any) -> Any:
            return await self._auditor.detached.run(act(request, context))

        return call

    def _other(self, method: str, inner: Behaviour) -> Behaviour:
        async def call(request: Any, context: Any) -> Any:
            try:
                reply = inner(request, context)
                return await reply if isawaitable(reply) else reply
            except PermissionDenied as error:
                caller = caller_of(context)
                self._auditor.refused(method, caller.credentials, caller.principal, error)
                raise

        return call

    def _stream(self, method: str, handler: Handler) -> Handler:
        inner = behaviour_of(handler.stream_stream if handler.request_streaming else handler.unary_stream)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            audited = AuditedContext(context, caller_of(context))
            entry = await self._auditor.begin(method, request, audited)
            failed: BaseException | None = None
            try:
                replies = inner(request, audited)
                if isasyncgen(replies):
                    async with aclosing(replies):
                        async for reply in replies:
                            yield reply
                elif isawaitable(replies):  # a handler that writes by itself
                    await replies
            except BaseException as error:
                failed = error
                raise
            finally:
                self._auditor.end_soon(entry, audited.notes, failed, audited)

        make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        return make(stream, handler.request_deserializer, handler.response_serializer)
