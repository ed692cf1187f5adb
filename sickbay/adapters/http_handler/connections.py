"""The connections to one endpoint, kept alive between jobs: HTTP/1.1, no redirects, no cookies, no proxies of the environment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

import httpcore

from sickbay.adapters.http_handler.endpoint import Endpoint
from sickbay.adapters.http_handler.network import OPENED, CheckedNetwork
from sickbay.adapters.http_handler.response import Head

KEPT_S: Final = 15.0
"""How long an idle connection is kept."""
MAX_STALE: Final = 10
"""Kept connections of which one request may find that they were closed meanwhile."""
LOST: Final = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)


class Connections:
    """Those of one event loop. As many as there are requests at a time: how many jobs run is limited elsewhere (`concurrency`)."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Nothing is opened yet."""
        where = endpoint.address
        self._url = httpcore.URL(
            scheme=b"https" if where.is_tls else b"http", host=where.host.encode("ascii"), port=where.port, target=where.path.encode()
        )
        self._host = where.header
        self._timeout = {"timeout": {"connect": endpoint.connect_s}}
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=endpoint.tls, max_connections=None, keepalive_expiry=KEPT_S, network_backend=CheckedNetwork(endpoint.rule)
        )

    @asynccontextmanager
    async def post(self, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Answer]:
        """The answer, whose body is read in the context; what is left of it then costs the connection. Raises httpcore's exceptions.

        There is no timeout but that for connecting: cancelling closes the connection.
        """
        lines = [("Host", self._host), *headers.items()]
        request = httpcore.Request("POST", self._url, headers=lines, content=body, extensions=self._timeout)
        answer = Answer(await self._send(request))
        try:
            yield answer
        finally:
            await answer.close()

    async def close(self) -> None:
        """Close all."""
        await self._pool.aclose()

    async def _send(self, request: httpcore.Request) -> httpcore.Response:
        """Send it once more if a kept connection turns out to be closed: servers close idle ones, also while a request is on its way."""
        for stale in range(MAX_STALE + 1):
            OPENED.set(False)
            try:
                return await self._pool.handle_async_request(request)
            except LOST:
                if OPENED.get() or stale == MAX_STALE:
                    raise
        raise AssertionError  # the last turn returns or raises


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
    connection = getattr(getattr(response.stream, "_stream", None), "_connection", None)
    parser = getattr(connection, "_h11_state", None)
    return parser is not None and bool(parser.trailing_data[0])


async def _generator(response: httpcore.Response) -> AsyncGenerator[bytes, None]:
    async for chunk in response.aiter_stream():
        yield chunk
