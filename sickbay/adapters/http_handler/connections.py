"""The connections to one endpoint, kept alive between jobs: HTTP/1.1, no redirects, no cookies, no proxies of the environment."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

import httpcore

from sickbay.adapters.http_handler.endpoint import Endpoint
from sickbay.adapters.http_handler.network import CheckedNetwork
from sickbay.adapters.http_handler.response import Head

KEPT_S: Final = 15.0
"""How long an idle connection is kept."""
MAX_STALE: Final = 10
"""Kept connections of which one request may find that they were closed meanwhile."""
LOST: Final = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)


class Connections:
    """Those of one event loop. As many as there are requests at a time: how many jobs run is limited elsewhere (`concurrency`).

    A pool of its own, because that of httpcore and httpx looks at each connection for each of them at every request: with 100 of them
    a job cost five times as much (docs/performance.md).
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Nothing is opened yet."""
        where = endpoint.address
        scheme = b"https" if where.is_tls else b"http"
        self._url = httpcore.URL(scheme=scheme, host=where.host.encode("ascii"), port=where.port, target=where.path.encode("ascii"))
        self._host = where.header
        self._timeout = {"timeout": {"connect": endpoint.connect_s}}
        self._tls = endpoint.tls
        self._network = CheckedNetwork(endpoint.rule, is_tls=where.is_tls)
        self._idle: deque[httpcore.AsyncHTTPConnection] = deque()
        self._busy: set[httpcore.AsyncHTTPConnection] = set()

    @asynccontextmanager
    async def post(self, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Answer]:
        """The answer, whose body is read in the context; what is left of it then costs the connection. Raises httpcore's exceptions.

        There is no timeout but that for connecting: cancelling closes the connection.
        """
        lines = [("Host", self._host), *headers.items()]
        request = httpcore.Request("POST", self._url, headers=lines, content=body, extensions=self._timeout)
        connection, response = await self._send(request)
        answer = Answer(response)
        try:
            yield answer
        finally:
            try:
                await answer.close()
            finally:
                await self._give_back(connection)

    async def close(self) -> None:
        """Close all."""
        for connection in (*self._idle, *self._busy):
            await connection.aclose()
        self._idle.clear()

    async def _send(self, request: httpcore.Request) -> tuple[httpcore.AsyncHTTPConnection, httpcore.Response]:
        """Send it once more if a kept connection turns out to be closed: servers close idle ones, also while a request is on its way."""
        for _ in range(MAX_STALE):
            kept = await self._kept()
            if kept is None:
                break
            with suppress(*LOST):
                return kept, await self._send_over(kept, request)
        connection = httpcore.AsyncHTTPConnection(
            self._url.origin, ssl_context=self._tls, keepalive_expiry=KEPT_S, network_backend=self._network
        )
        return connection, await self._send_over(connection, request)

    async def _send_over(self, connection: httpcore.AsyncHTTPConnection, request: httpcore.Request) -> httpcore.Response:
        """If this raises, the connection has been closed, or was never opened."""
        self._busy.add(connection)
        try:
            return await connection.handle_async_request(request)
        except BaseException:
            self._busy.discard(connection)
            raise

    async def _kept(self) -> httpcore.AsyncHTTPConnection | None:
        """The connection that was used last, and is still open as far as that is known: so those that are not needed expire."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def _give_back(self, connection: httpcore.AsyncHTTPConnection) -> None:
        self._busy.discard(connection)
        if connection.is_idle():
            self._idle.append(connection)
        else:
            await connection.aclose()
        while self._idle and self._idle[0].has_expired():
            await self._idle.popleft().aclose()


class Answer:
    """The head of an answer, and its body as far as it is wanted."""

    def __init__(self, response: httpcore.Response) -> None:
        """Of a header that comes more than once the first counts."""
        self._response = response
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reversed(response.headers)}
        self.head = Head(response.status, headers)

    async def read(self, most: int) -> bytes | None:
        """The whole body; None if it has more than `most` bytes, of which no more are read than come at once."""
        body = bytearray()
        async with aclosing(_generator(self._response)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > most:
                    return None
        return bytes(body)

    async def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end, or if something comes after that.

        It would be taken for the answer to the next request, which is another job.
        """
        if _is_followed(self._response):
            await self._response.extensions["network_stream"].aclose()
        await self._response.aclose()


def _is_followed(response: httpcore.Response) -> bool:
    """Whether bytes have come after the end of the answer. httpcore keeps them and does not tell; a contract test watches this."""
    parser = getattr(getattr(response.stream, "_connection", None), "_h11_state", None)
    return parser is not None and bool(parser.trailing_data[0])


async def _generator(response: httpcore.Response) -> AsyncGenerator[bytes, None]:
    async for chunk in response.aiter_stream():
        yield chunk
