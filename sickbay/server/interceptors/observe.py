"""Observes every call of a service, over gRPC or in process: used to count and trace calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import grpc

from sickbay.server.interceptors.handlers import Context, Continuation, Handler, wrap_handler

_REFLECTION: Final = "/grpc.reflection."


class Call(NamedTuple):
    """A call that begins. The steps of a stream may run in different tasks, so observers must not rely on context variables."""

    service: str
    method: str
    context: Context
    is_stream: bool


CallObserver = Callable[[Call], AbstractContextManager[object]]


class ObserveInterceptor(grpc.aio.ServerInterceptor):
    """Runs inside the interceptor that translates errors, so `observer` sees the errors of servicers. It must let them pass."""

    def __init__(self, observer: CallObserver) -> None:
        """`observer` returns the context manager for each call."""
        self._observer = observer

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap handlers; reflection and unknown methods are not observed."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_REFLECTION):
            return handler
        return wrap_handler(handler, partial(self._observed, handler_call_details.method, handler.response_streaming))

    @asynccontextmanager
    async def _observed(self, path: str, is_stream: bool, context: Context) -> AsyncIterator[None]:  # noqa: FBT001 - bound above
        _, service, method = path.split("/")
        with self._observer(Call(service, method, context, is_stream)):
            yield
