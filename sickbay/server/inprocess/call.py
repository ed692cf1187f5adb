"""The client side of in-process calls: the objects of `await stub.GetJob(...)` and `async for ... in stub.WatchJob(...)`.

They behave like those of grpc.aio: errors are raised as AioRpcError, cancelling the task that awaits or iterates cancels the call, and a
stream without references is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any, Final

import grpc

from sickbay.server.inprocess.context import DoneCallback, Status

AHEAD: Final = 8
"""How many replies a servicer can be ahead of its reader."""
_CANCELLED: Final = Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")

Serving = asyncio.Task[tuple[Status, Any]]
"""A running servicer: how the call ended, and the reply of a unary one."""


class Replies:
    """A bounded queue of the replies of a stream; `EOF` follows the last."""

    def __init__(self) -> None:
        """Start empty."""
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Semaphore(AHEAD)

    async def put(self, message: Any) -> None:
        """Wait for room."""
        await self._room.acquire()
        self._queue.put_nowait(message)

    def end(self, _: object = None) -> None:
        """Mark the end."""
        self._queue.put_nowait(grpc.aio.EOF)

    async def get(self) -> Any:
        """Wait for the next one; at the end always EOF."""
        message = await self._queue.get()
        if message is grpc.aio.EOF:
            self.end()
        else:
            self._room.release()
        return message


class _Call:
    """The base of both kinds of call."""

    def __init__(self, serving: Serving, deadline: float | None) -> None:
        self._serving, self._deadline = serving, deadline
        self._was_cancelled = False

    def cancel(self) -> bool:
        """Cancel the call; False if it has ended."""
        if self.done():
            return False
        self._was_cancelled = True
        return self._serving.cancel()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._was_cancelled or self._serving.cancelled()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._was_cancelled or self._serving.done()

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._serving.get_loop().time())

    def add_done_callback(self, callback: DoneCallback) -> None:
        """Call it with this call at its end."""
        self._serving.add_done_callback(lambda _: callback(self))

    async def code(self) -> grpc.StatusCode:
        """Wait for the end and return the status code."""
        return (await self._status()).code

    async def details(self) -> str:
        """Wait for the end and return the message of the status."""
        return (await self._status()).details

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Wait for the end and return the trailing metadata."""
        return grpc.aio.Metadata(*(await self._status()).trailing)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Nothing: servicers send none in process."""
        return grpc.aio.Metadata()

    async def wait_for_connection(self) -> None:
        """There is nothing to connect."""

    async def _status(self) -> Status:
        if not self.done():
            await asyncio.wait((self._serving,))
        return self._ended()[0]

    def _ended(self) -> tuple[Status, Any]:
        return (_CANCELLED, None) if self.cancelled() else self._serving.result()


class UnaryCall(_Call, grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call with one reply: await it."""

    def __await__(self) -> Generator[Any, None, Any]:
        """The reply, or AioRpcError; CancelledError if the call was cancelled."""
        if self.cancelled():
            raise asyncio.CancelledError
        caller = asyncio.current_task()
        before = caller.cancelling() if caller else 0
        status, reply = yield from self._serving.__await__()  # cancelling the caller cancels the servicer, and waits for it
        if self._was_cancelled or (caller and caller.cancelling() > before):
            raise asyncio.CancelledError  # even if the servicer swallowed it
        if status.code is not grpc.StatusCode.OK:
            raise status.error()
        return reply


class StreamCall(_Call, grpc.aio.UnaryStreamCall[Any, Any]):
    """A call with a stream of replies: iterate over it."""

    def __init__(self, serving: Serving, deadline: float | None, replies: Replies) -> None:
        """Read from `replies`, which end when `serving` does."""
        super().__init__(serving, deadline)
        self._replies = replies

    def __del__(self) -> None:
        """Cancel a stream that can no longer be read."""
        if not self._serving.done() and not self._serving.get_loop().is_closed():
            self._serving.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Every reply; AioRpcError at the end unless that was OK."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def read(self) -> Any:
        """The next reply, or grpc.aio.EOF after the last one if the call ended well."""
        if self.cancelled():
            raise asyncio.CancelledError
        try:
            message = await self._replies.get()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return message if message is not grpc.aio.EOF else self._eof()

    def _eof(self) -> Any:
        status, _ = self._ended()
        if status is _CANCELLED:
            raise asyncio.CancelledError
        if status.code is not grpc.StatusCode.OK:
            raise status.error()
        return grpc.aio.EOF
