"""The handler of a job type that is an endpoint: posts a job, and says what the answer means."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import httpcore

from sickbay.adapters.http_handler.connections import Answer, Connections
from sickbay.adapters.http_handler.credentials import Credentials
from sickbay.adapters.http_handler.endpoint import Endpoint
from sickbay.adapters.http_handler.network import AddressNotAllowed
from sickbay.adapters.http_handler.request import headers_of
from sickbay.adapters.http_handler.response import failure_of_answer, result_of_answer
from sickbay.adapters.http_handler.spans import UNTRACED, RequestSpans
from sickbay.domain.job import Job
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.result import MAX_RESULT_BYTES, Result
from sickbay.handlers.known import known_of
from sickbay.handlers.known.rule import Known, known
from sickbay.handlers.remote import RemoteFailure
from sickbay.ports import Clock

REST_S: Final = 2.0
"""How long the body of an answer is read that has no result: that of a failure says why, and a success is one without it."""
_ERRORS: Final = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError)


class HttpHandler:
    """Called for each run, on the loop of the handlers. Its connections end with the loop, or with the handler if that is replaced."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        timeout_s: Callable[[], float],
        clock: Clock,
        spans: RequestSpans = UNTRACED,
    ) -> None:
        """`timeout_s` returns the timeout of a run that is in force, in seconds."""
        self._endpoint = endpoint
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._clock = clock
        self._spans = spans
        self._kept: _Kept | None = None

    async def __call__(self, job: Job) -> Result | None:
        """Post the job; returns what is kept of the answer. RemoteFailure if it is not a success, or if there is none."""
        host, secrets = self._endpoint.address.host, self._credentials.current()
        kept = await self._connections()
        headers = headers_of(job, now=self._clock(), timeout_s=self._timeout_s(), keys=secrets.keys, more=secrets.headers)
        with self._spans.request(job, self._endpoint.address) as span:
            try:
                async with kept.connections.post(headers | span.headers, job.payload_json) as answer:
                    span.answered(answer.head.status)
                    if answer.head.is_success:
                        return await _result(answer)
                    body = await _rest(answer)
            except _ERRORS as error:
                raise failure_of_error(error, self._endpoint) from None
            raise failure_of_answer(answer.head, body, host, secrets.withheld)

    async def _connections(self) -> _Kept:
        """Those of the running loop. A run on a loop that was abandoned holds its own, which are closed after it."""
        loop = asyncio.get_running_loop()
        kept = self._kept
        if kept is None or kept.loop is not loop:
            connections = Connections(self._endpoint)
            kept = self._kept = _Kept(loop, connections, _closing(connections))
            await anext(kept.closing)
        return kept


class _Kept(NamedTuple):
    """The connections of a loop, and what closes them."""

    loop: asyncio.AbstractEventLoop
    connections: Connections
    closing: AsyncGenerator[None, None]


async def _closing(connections: Connections) -> AsyncGenerator[None, None]:
    """Once begun it is closed by its loop: at the loop's end (`shutdown_asyncgens`), or before if nobody refers to it any more."""
    try:
        yield
    finally:
        await connections.close()


async def _result(answer: Answer) -> Result | None:
    """The result of a success. If the connection is lost before the end of a result, the run has failed: the next one gets it whole."""
    if answer.head.has_result:
        return result_of_answer(answer.head, await answer.read(MAX_RESULT_BYTES))
    await _rest(answer)
    return result_of_answer(answer.head, None)


async def _rest(answer: Answer) -> bytes | None:
    """The body if it comes soon and is not too large: then the connection can be used again."""
    with suppress(*_ERRORS):  # a TimeoutError is an OSError
        async with asyncio.timeout(REST_S):
            return await answer.read(MAX_RESULT_BYTES)
    return None


def failure_of_error(error: BaseException, endpoint: Endpoint) -> RemoteFailure:
    """What it means that there is no answer, in our own words: those of others may contain the path."""
    found = _NOT_ALLOWED if isinstance(error, AddressNotAllowed) else known_of(error) or known("NETWORK_ERROR")
    return RemoteFailure(found.code, _words(error, endpoint), found.kind)


_NOT_ALLOWED: Final = Known("ADDRESS_NOT_ALLOWED", OutcomeKind.SYSTEMIC)


def _words(error: BaseException, endpoint: Endpoint) -> str:
    host = endpoint.address.header
    reason = error.__context__ or error
    if isinstance(error, AddressNotAllowed):
        return str(error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not valid for it, or its authority is unknown (ca_file): {reason.verify_message}"
    if isinstance(reason, ssl.SSLError):
        return f"{host} does not speak TLS as this worker does: {reason.reason or 'the handshake failed'}"
    if isinstance(error, socket.gaierror):
        return f"the name {endpoint.address.host} is not known: {error.strerror}"
    if isinstance(error, httpcore.ConnectTimeout):
        return f"{host} could not be reached within {endpoint.connect_s:g} s"
    if isinstance(error, httpcore.ConnectError):
        return f"{host} could not be reached: {_reason(error)}"
    if isinstance(error, httpcore.ProtocolError):
        return f"{host} closed the connection without an answer, or did not answer in HTTP/1.1"
    return f"the connection to {host} was lost"


def _reason(error: BaseException) -> str:
    """The operating system's reason of a failed connection."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno:
            return os.strerror(seen.errno)
        seen = seen.__cause__ or seen.__context__
    return "the connection was refused"
