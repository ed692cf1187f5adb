"""Puts something around every call of a service, whichever door it comes by: that is how calls are counted and traced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple

import grpc

from sickbay.server.interceptors.handlers import Context, Continuation, Handler, enclosed


class Call(NamedTuple):
    """A call that begins. The steps of a stream may run in different tasks, so nothing around it may rely on context variables."""

    service: str
    method: str
    context: Context
    is_stream: bool


Around = Callable[[Call], AbstractContextManager[object]]


class ObserveInterceptor(grpc.aio.ServerInterceptor):
    """Stands inside the interceptor that translates errors, so `around` sees what servicers raise. It must let that pass."""

    def __init__(self, around: Around) -> None:
        """`around` makes what each call runs in."""
        self._around = around

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap handlers with one request; reflection, which takes many, is left alone, and so is what nobody serves."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return enclosed(handler, partial(self._surrounded, handler_call_details.method, handler.response_streaming))

    @asynccontextmanager
    async def _surrounded(self, path: str, is_stream: bool, context: Context) -> AsyncIterator[None]:  # noqa: FBT001 - bound above
        _, service, method = path.split("/")
        with self._around(Call(service, method, context, is_stream)):
            yield
