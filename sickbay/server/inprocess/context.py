"""The `ServicerContext` of an in-process call, equivalent to that over the network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

import grpc

from sickbay.server.access.caller import REST_CALLER

PEER: Final = "in-process"


class Metadatum(NamedTuple):
    """One entry of metadata."""

    key: str
    value: str | bytes


Metadata = tuple[Metadatum, ...]
DoneCallback = Callable[[Any], None]


def metadata(entries: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The metadata of a caller, in the form that servicers get."""
    return tuple(Metadatum(key, value) for key, value in entries or ())


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailing: Metadata = ()

    def error(self) -> grpc.aio.AioRpcError:
        """The error that a client's stub raises."""
        return grpc.aio.AioRpcError(self.code, grpc.aio.Metadata(), grpc.aio.Metadata(*self.trailing), self.details)


class Context(grpc.aio.ServicerContext[Any, Any]):
    """The context of one call; `deadline` is a time of the event loop, None if the caller set no timeout.

    `caller` is that of the HTTP request in whose task the call was made, None without access control.
    """

    def __init__(self, sent: Metadata, deadline: float | None, write: Callable[[Any], Awaitable[None]] | None = None) -> None:
        """`sent` is the metadata of the caller; `write` receives the replies of a stream."""
        self._sent, self.deadline, self._write = sent, deadline, write
        self.caller = REST_CALLER.get()
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        self._callbacks: list[DoneCallback] = []
        self._done = self._cancelled = False

    def status(self) -> Status:
        """The status that the servicer has set so far."""
        return Status(self._code or grpc.StatusCode.OK, self._details, self._trailing)

    def finish(self, *, cancelled: bool) -> None:
        """End the call and run the callbacks."""
        self._done, self._cancelled = True, cancelled
        for callback in self._callbacks:
            callback(self)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with a status other than OK."""
        self._code, self._details = code, details
        if trailing_metadata:
            self._trailing = metadata(trailing_metadata)
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with a rich status."""
        await self.abort(status.code, status.details, status.trailing_metadata)

    async def write(self, message: Any) -> None:
        """Send one reply of a stream; waits while the reader is far behind."""
        if self._write is None:
            raise grpc.aio.UsageError("only a streaming handler writes")
        await self._write(message)

    async def read(self) -> NoReturn:
        """Not supported: in process every call has one request."""
        raise grpc.aio.UsageError("the request was given to the handler")

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Ignored: initial metadata is not read in process."""

    def add_done_callback(self, callback: DoneCallback) -> None:
        """Call it with this context at the end of the call."""
        self._callbacks.append(callback)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Send these with the status."""
        self._trailing = metadata(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """The trailing metadata that was set."""
        return self._trailing

    def invocation_metadata(self) -> Any:
        """The metadata of the caller."""
        return self._sent

    def set_code(self, code: grpc.StatusCode) -> None:
        """End with this code."""
        self._code = code

    def code(self) -> Any:
        """The code that was set, None if none was."""
        return self._code

    def set_details(self, details: str) -> None:
        """End with this message."""
        self._details = details

    def details(self) -> str:
        """The message that was set."""
        return self._details

    def time_remaining(self) -> Any:
        """Seconds until the caller's deadline, None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - asyncio.get_running_loop().time())

    def cancelled(self) -> bool:
        """Whether the caller cancelled the call."""
        return self._cancelled

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._done

    def peer(self) -> str:
        """A constant: the caller is this process."""
        return PEER

    def peer_identities(self) -> Iterable[bytes] | None:
        """None: there is no authentication in process."""
        return None

    def peer_identity_key(self) -> str | None:
        """None: there is no authentication in process."""
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """None: there is no authentication in process."""
        return {}

    def set_compression(self, compression: grpc.Compression) -> None:
        """Ignored: nothing is compressed in process."""

    def disable_next_message_compression(self) -> None:
        """Ignored: nothing is compressed in process."""
