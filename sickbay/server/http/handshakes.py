"""Accepts the connections of an HTTP port with TLS: a handshake has a time, and there is a limit of those in progress.

uvicorn would leave both to the event loop, which limits neither the number nor, for a minute, the time. Whoever has finished its handshake
is a `Connection` like any other, with the certificate that was in force when it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sickbay.ports.tls import Certificates
from sickbay.server.http.ending import Port
from sickbay.server.http.limits import SPARE
from sickbay.server.http.meter import Reason
from sickbay.server.peers import peer_of

SHUTDOWN_S: Final = 5.0
"""How long a client may take to answer the end of TLS."""
ACCEPTS: Final = 32
"""Connections that are accepted before others have a turn."""
REST_S: Final = 0.1
"""No connection is accepted for so long if no file can be opened."""

log = logging.getLogger(__name__)


class Handshakes:
    """The listening socket of a port with TLS; `close` stops it and ends what has not finished its handshake."""

    def __init__(self, listening: socket.socket, certificates: Certificates, port: Port, protocol: Callable[[], asyncio.Protocol]) -> None:
        """`protocol` makes the protocol of a connection."""
        self._listening, self._certificates, self._port, self._protocol = listening, certificates, port, protocol
        self._loop = asyncio.get_running_loop()
        self._open: OrderedDict[asyncio.Task[None], tuple[str, socket.socket]] = OrderedDict()
        self._is_closed = False
        self._loop.add_reader(listening.fileno(), self._accept)

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Accept no more. Calling it twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listening.fileno())
            for task in list(self._open):
                self._cut(task)

    async def wait_closed(self) -> None:
        """For uvicorn."""

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("no connection can be accepted: %s", error.strerror)
                self._loop.remove_reader(self._listening.fileno())
                self._loop.call_later(REST_S, self._go_on)
                return
            accepted.setblocking(False)
            self._make_room(peer := peer_of(address[0]))
            task = self._loop.create_task(self._shake(accepted))
            self._open[task] = peer, accepted
            task.add_done_callback(self._done)

    def _go_on(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    async def _shake(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                accepted,
                ssl=self._certificates.current.context,
                ssl_handshake_timeout=self._port.limits.header_timeout,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except TimeoutError:
            self._port.meter.count_refusal(Reason.SILENT)
        except OSError as error:  # errors of TLS are such, too
            if "handshake is taking longer" in str(error):
                self._port.meter.count_refusal(Reason.SILENT)
            log.debug("a TLS handshake failed: %s", error)
            accepted.close()

    def _make_room(self, peer: str) -> None:
        """End the oldest handshake, first of a peer that has half of them."""
        most = max(SPARE, self._port.limits.max_connections + SPARE - len(self._port.limiter))
        mine = [task for task, (other, _) in self._open.items() if other == peer] if len(self._open) >= most // 2 else []
        if len(mine) >= max(1, most // 2):
            self._end(mine[0])
        elif len(self._open) >= most:
            self._end(next(iter(self._open)))

    def _end(self, task: asyncio.Task[None]) -> None:
        self._port.meter.count_refusal(Reason.OLDEST)
        self._cut(task)

    def _cut(self, task: asyncio.Task[None]) -> None:
        _, accepted = self._open.pop(task)
        with contextlib.suppress(OSError):
            accepted.shutdown(socket.SHUT_RDWR)
        task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a TLS connection failed", exc_info=error)
