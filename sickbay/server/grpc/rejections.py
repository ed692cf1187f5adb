"""How calls beyond a limit are rejected or ended, and the sizes of what they send.

Core has limits of metadata and messages, too, but neither counts nor logs what exceeds them: so its own are higher than those applied here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import grpc

from sickbay.domain.errors import ErrorReason, ResourceExhausted, SickbayError
from sickbay.server.errors import fault_of, rich_status
from sickbay.server.grpc.meter import Reason
from sickbay.server.grpc.reach import context_of
from sickbay.server.interceptors.handlers import Context, Handler

CORE_FACTOR: Final = 2
"""Core rejects by itself what exceeds this many times the limit of a size."""
TOO_LARGE: Final = object()
"""Replaces a message over the limit."""
_ENTRY_BYTES: Final = 32
"""HTTP/2 counts this much for each entry, beside its name and its value."""
_MESSAGES: Final = {
    Reason.BODY_TIMEOUT: "timed out waiting for the message of this call (GRPC_BODY_TIMEOUT)",
    Reason.UNREAD: "timed out waiting for the client to read the response of this call (GRPC_WRITE_TIMEOUT)",
    Reason.OLDEST: "too many calls (GRPC_MAX_CALLS), and this one had waited longest for its client",
}


def metadata_bytes(metadata: Iterable[tuple[str, str | bytes]] | None) -> int:
    """The size of a call's metadata, as HTTP/2 counts it."""
    return sum([len(name) + len(value) + _ENTRY_BYTES for name, value in metadata or ()])


def metadata_handler(most: int) -> Handler:
    """A handler that rejects a call for its metadata, without waiting for its message."""

    async def reject(_: Any, context: Context) -> None:
        text = f"the metadata of this call exceeds {most:,} bytes (GRPC_MAX_METADATA_BYTES)"
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    return grpc.stream_stream_rpc_method_handler(reject)


def calls_handler(most: int) -> Handler:
    """A handler that rejects one call too many, without waiting for its message, which a handler of one request would do."""
    text = f"too many calls: {most:,} are in progress (GRPC_MAX_CALLS); try again in a moment"
    return refusal_handler(ResourceExhausted(text, ErrorReason.TOO_MANY_CALLS))


def refusal_handler(error: SickbayError) -> Handler:
    """A handler that rejects a call with this error, without waiting for its message."""

    async def reject(_: Any, context: Context) -> None:
        await context.abort_with_status(rich_status(fault_of(error)))

    return grpc.stream_stream_rpc_method_handler(reject)


async def reject_message(context: Context, size: int, most: int) -> None:
    """Abort a call for the size of its message, in bytes."""
    text = f"the message of this call has {size:,} bytes, and {most:,} are allowed (GRPC_MAX_MESSAGE_BYTES); send it in parts"
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)


async def abort_call(task: asyncio.Task[Any], reason: Reason) -> None:
    """Abort a call from outside: its client gets the reason, and core frees its buffers."""
    context = context_of(task)
    task.cancel()
    await asyncio.wait([task])
    if context is not None:
        with suppress(grpc.aio.AbortError, grpc.aio.BaseError, asyncio.InvalidStateError, RuntimeError):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _MESSAGES[reason])
