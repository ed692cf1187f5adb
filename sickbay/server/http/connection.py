"""An HTTP connection with limits: uvicorn's protocol for httptools, which by itself has no timeouts and buffers without limit.

`tests/unit/server/http/test_connection.py` lists what it uses of uvicorn's undocumented parts, and fails if they change.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, cast

import httptools

from sickbay.server.http import limits as bounds
from sickbay.server.http import refusal as words
from sickbay.server.http.connection_limiter import Entry
from sickbay.server.http.ending import EndingConnection, Port
from sickbay.server.http.flow import GentleTransport
from sickbay.server.http.head import BadRequest, body_size
from sickbay.server.http.meter import Reason
from sickbay.server.http.request import Incoming
from sickbay.server.http.unread import Unread
from sickbay.server.peers import peer_of
from sickbay.server.tls import CERTIFICATE, names_over_http


class Connection(EndingConnection):
    """Parses one request at a time, and continues once its response is written and read. `sweep` enforces the timeouts."""

    def __init__(self, port: Port, **options: Any) -> None:
        """`options` are uvicorn's."""
        super().__init__(port, **options)
        self._entry = Entry.ACCEPTED
        self._certificate: tuple[str, ...] = ()
        self._unread: Unread | None = None  # with TLS
        self._refusal = (400, Reason.MALFORMED, words.MALFORMED)
        self._has_asked = False
        self._chunks: list[bytes] = []
        self._pieces: list[bytes] = []  # of the body, for the application
        self._pieces_bytes = 0
        self._is_queued = False  # for its turn to parse

    # called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register, if necessary in place of another connection."""
        super().connection_made(transport)
        self.peer = peer_of(self.client[0]) if self.client else ""
        self._certificate = names_over_http(transport.get_extra_info("peercert"))
        if transport.get_extra_info("ssl_object") is not None:
            self._unread = Unread(transport.get_extra_info("socket"))
        self._entry = self._port.limiter.enter(self)

    def data_received(self, data: bytes) -> None:
        """Parse as much as is allowed now."""
        self._unset_keepalive_if_required()
        if self._lingers:
            self._discard(len(data))
            self._read_in_turn(len(data))
        elif not self.transport.is_closing():
            if not (self._inbox or self._request.has_begun):
                self._since = self.loop.time()
            self._inbox.put(data)
            if self._request.in_body:
                self._port.turns.owe_for_reading(len(data))
            self._parse()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        super().pause_writing()
        self._since, self._unsent = self.loop.time(), self.transport.get_write_buffer_size()
        self._port.limiter.waits(self)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._since, self._unsent = self.loop.time(), 0
        if self._is_answering:
            self._port.limiter.served(self)
        self._parse()

    # called by the parser

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        super().on_url(url)
        if len(self.url) > bounds.MAX_URL_BYTES:
            self._abort_parsing(414, Reason.HEADER_SIZE, f"the URL is longer than {bounds.MAX_URL_BYTES:,} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line; trailers, which are ignored, come this way, too."""
        if self._request.in_body:
            return
        super().on_header(name, value)
        if len(self.headers) > bounds.MAX_HEADERS:
            self._abort_parsing(431, Reason.HEADER_SIZE, f"the header has more than {bounds.MAX_HEADERS} lines")

    def on_headers_complete(self) -> None:
        """Call the application, unless the head is rejected."""
        try:
            size = body_size(self.parser.get_http_version(), self.headers, upgrades=self.parser.should_upgrade())
        except BadRequest as bad:
            self._abort_parsing(bad.status, Reason.MALFORMED, bad.message)
        self._check_limits()
        if self._certificate:
            cast("Any", self.scope)["extensions"] = {CERTIFICATE: self._certificate}
        super().on_headers_complete()
        self._has_asked = True
        self.cycle.keep_alive = self.cycle.keep_alive and self._entry is Entry.ACCEPTED
        self._request.begin_body(size)
        if size != 0:
            self.cycle.transport = cast("asyncio.Transport", GentleTransport(self.transport, self))
            self._wait()
            self._ask_for_room()

    def on_body(self, body: bytes) -> None:
        """A part of the body; chunks, which may be tiny, are joined first."""
        if self._request.is_chunked:
            self._chunks.append(body)
        else:
            self._pass_on(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._pass_on_chunks()
        self._hand_over()
        super().on_message_complete()
        self._request, self._discarded = Incoming(), 0
        self._port.bodies.arrived(self)
        if self._is_answering:
            self._port.limiter.served(self)
        else:
            self._wait()

    # called by the application and by others

    def on_response_complete(self) -> None:
        """The response is written: the next request may come."""
        super().on_response_complete()
        self._waits_for_room = False
        self._port.bodies.done(self, self.loop.time())
        if not self.transport.is_closing():
            self._wait()
            self._parse()

    def may_go_on(self) -> None:
        """See `Upload`: there is room for the body."""
        self._waits_for_room = False
        self._wait()
        self.loop.call_soon(self._parse)

    def lose_room(self) -> None:
        """See `Upload`: others wait for the room of a stalled body."""
        self._refuse(503, Reason.BODY_ROOM, words.NO_ROOM)

    def sweep(self, now: float) -> None:
        """Enforce the timeouts; called every second."""
        waited = now - self._since
        if self._unread is not None and self._unread.stuck_s(now) > self._port.limits.write_timeout:
            self._port.meter.count_refusal(Reason.UNREAD)
            self.transport.abort()
        elif self.transport.is_closing() or self._unsent:
            self._sweep_unsent(now)
        elif self._lingers or (self._request.in_body and self.cycle.response_complete):
            if waited > bounds.LINGER_S:
                self.transport.abort()
        elif self._waits_for_room:
            if waited > self._port.limits.body_timeout:
                self._refuse(503, Reason.BODY_ROOM, words.NO_ROOM)
        elif self._request.in_body:
            if waited > self._port.limits.body_timeout + self._request.got / bounds.LEAST_RATE:
                self._refuse(408, Reason.BODY_TIMEOUT, words.LATE_BODY)
        elif waited > self._port.limits.header_timeout:
            self._sweep_head()

    def _sweep_head(self) -> None:
        if self._request.has_begun:
            self._refuse(408, Reason.HEADER_TIMEOUT, words.LATE_HEADER)
        elif not self._has_asked:  # it never sent a request; one that did has the timeout of an idle connection
            self._port.meter.count_refusal(Reason.SILENT)
            self.transport.close()

    # internal

    @property
    def _is_answering(self) -> bool:
        return self._has_asked and not self.cycle.response_complete and not self._request.has_begun

    def _parse(self) -> None:
        """Parse received data until something must be waited for, or it is the turn of others; reading is paused while data is left."""
        for _ in range(bounds.TURN_PIECES):
            if self._inbox and self._may_parse and not self._request.is_long:
                self._feed()
        self._continue()

    def _parse_in_turn(self) -> None:
        self._is_queued = False
        if self._inbox and self._may_parse:
            self._feed()
        self._continue()

    def _continue(self) -> None:
        if self.transport.is_closing():
            self._inbox.clear()
        elif not self._inbox and not self._waits_for_room:
            self._read_on()
        else:
            self._pause_reading()
            if self._may_parse and not self._is_queued:
                self._is_queued = True
                self._port.turns.parsing.wait(self._parse_in_turn)

    @property
    def _may_parse(self) -> bool:
        waits_for_us = self._is_answering or self._waits_for_room or self.flow.write_paused
        return not (waits_for_us or self._lingers or self.transport.is_closing())

    def _feed(self) -> None:
        request = self._request
        piece = request.piece(self._inbox, self._port.limits.max_header_bytes)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:  # not supported: the next request is plain HTTP, too
            self._inbox.give_back(bytes(piece[upgrade.args[0] :]))
        except httptools.HttpParserError:
            self._refuse(*self._refusal)
            return
        self._pass_on_chunks()
        if not request.in_body and request.head_bytes > self._port.limits.max_header_bytes:
            self._refuse(431, Reason.HEADER_SIZE, words.LARGE_HEADER)
        elif request.excess > bounds.MAX_CHUNK_EXTRA:
            self._refuse(431, Reason.HEADER_SIZE, words.LARGE_FRAMES)

    def _pass_on(self, body: bytes) -> None:
        if self._request.got_body(len(body)):
            self._port.bodies.moved(self, self.loop.time())
            self._port.limiter.waits(self)
        self._pieces.append(body)
        self._pieces_bytes += len(body)
        if self._pieces_bytes >= bounds.HAND_OVER_BYTES:
            self._hand_over()
        if self.cycle.response_complete:
            self._discard(len(body))
        else:
            self._ask_for_room()

    def _hand_over(self) -> None:
        """Give the application what came of the body; it is not woken for every few bytes."""
        if self._pieces:
            body, self._pieces, self._pieces_bytes = b"".join(self._pieces), [], 0
            super().on_body(body)

    def _pass_on_chunks(self) -> None:
        if self._chunks:
            self._request.chunks += len(self._chunks)
            body, self._chunks = b"".join(self._chunks), []
            self._pass_on(body)

    def _abort_parsing(self, status: int, reason: Reason, message: str) -> NoReturn:
        """Reject the request from inside the parser, which then ends with an error."""
        self._refusal = (status, reason, message)
        raise BadRequest(status, message)

    def _check_limits(self) -> None:
        """A connection beyond the limit may only request the health."""
        if self._entry is Entry.PORT_FULL and not _asks_for_health(self.url):
            self._abort_parsing(503, Reason.CONNECTIONS, words.BUSY)
        if self._entry is Entry.PEER_FULL and not _asks_for_health(self.url):
            self._abort_parsing(503, Reason.PEER_CONNECTIONS, words.BUSY_PEER)

    def _ask_for_room(self) -> None:
        if size := self._request.room_needed():
            self._wait()
            self._waits_for_room = True
            self._port.limiter.served(self)
            self._port.bodies.ask(self, size, self._since)


def _asks_for_health(url: bytes) -> bool:
    return url.partition(b"?")[0] == b"/health"
