"""The interceptor that translates errors to statuses; servers and in-process channels add it as the outermost one.

Servicers just raise. Other errors than SickbayError are logged with a traceback and become INTERNAL, without their text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc

from sickbay.contract.faults import Fault
from sickbay.domain.errors import SickbayError
from sickbay.server.errors import INTERNAL, fault_of, rich_status
from sickbay.server.interceptors.handlers import Context, Continuation, Handler, wrap_handler

_log = logging.getLogger(__name__)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Translates errors of handlers, of those with streams too. An abort by the handler itself and a cancellation pass through."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the handler."""
        return wrap_handler(await continuation(handler_call_details), partial(_translate_errors, handler_call_details.method))


@asynccontextmanager
async def _translate_errors(method: str, context: Context) -> AsyncIterator[None]:
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, grpc.aio.AbortError) or _is_cancelled(error):
            raise
        await context.abort_with_status(rich_status(_to_fault(method, context, error)))


def _is_cancelled(error: BaseException) -> bool:
    """Whether this task is being cancelled; a CancelledError raised by the handler itself would leave the client without a response."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _to_fault(method: str, context: Context, error: BaseException) -> Fault:
    if isinstance(error, NotImplementedError) and context.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Fault(grpc.StatusCode.UNIMPLEMENTED, context.details())  # a method that the servicer does not implement
    fault = fault_of(error)
    if fault is INTERNAL:
        _log.error("%s failed", method, exc_info=error)
    elif isinstance(error, SickbayError) and error.__cause__ is not None:
        _log.info("%s: %s (%s: %s)", method, error, type(error.__cause__).__name__, error.__cause__)
    return fault
