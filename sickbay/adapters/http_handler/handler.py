"""The handler of a job type that is an endpoint: posts a job, and says what the answer means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final, NamedTuple

from sickbay.adapters.http_handler.connections import Answer, Connections
from sickbay.adapters.http_handler.credentials import Credentials
from sickbay.adapters.http_handler.endpoint import Endpoint
from sickbay.adapters.http_handler.errors import ERRORS, failure_of_error
from sickbay.adapters.http_handler.request import headers_of
from sickbay.adapters.http_handler.response import failure_of_answer, result_of_answer
from sickbay.adapters.http_handler.spans import UNTRACED, RequestSpans
from sickbay.domain.job import Job
from sickbay.domain.result import MAX_RESULT_BYTES, Result
from sickbay.ports import Clock

REST_S: Final = 2.0
"""How long the body of an answer is read that has no result: that of a failure says why, and a success is one without it."""


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
        where, secrets = self._endpoint.address, self._credentials.current()
        kept = await self._connections()
        headers = headers_of(job, now=self._clock(), timeout_s=self._timeout_s(), keys=secrets.keys, more=secrets.headers)
        with self._spans.request(job, where.host, where.port) as span:
            try:
                async with kept.connections.post({**headers, **span.headers}, job.payload_json) as answer:
                    span.answered(answer.head.status)
                    if answer.head.is_success:
                        return await _result(answer)
                    body = await _rest(answer)
            except ERRORS as error:
                raise failure_of_error(error, self._endpoint) from None
            raise failure_of_answer(answer.head, body, where.header, secrets.withheld)

    async def close(self) -> None:
        """Close the connections of the running loop now. Otherwise they end with the loop, or soon after the last reference to this."""
        if self._kept is not None and self._kept.loop is asyncio.get_running_loop():
            await self._kept.closing.aclose()
            self._kept = None

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
    if (answer.head.size or 0) > MAX_RESULT_BYTES:
        return None
    with suppress(*ERRORS):  # a TimeoutError is an OSError
        async with asyncio.timeout(REST_S):
            return await answer.read(MAX_RESULT_BYTES)
    return None
