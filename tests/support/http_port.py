"""An HTTP port without a network: connections on transports that only remember, under a clock that the test moves."""

import asyncio
import re
from functools import partial

import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from sickbay.domain.limits import HttpLimits
from sickbay.server.http.bodies import BodyBudget
from sickbay.server.http.connection import Connection
from sickbay.server.http.connection_limiter import ConnectionLimiter
from sickbay.server.http.ending import Port
from sickbay.server.http.meter import HttpMeter, Reason
from sickbay.server.http.turns import PortTurns, Turns


class Loop:
    """The running loop but for its time."""

    def __init__(self):
        self.now = 100.0
        self._loop = asyncio.get_running_loop()

    def time(self):
        return self.now

    def __getattr__(self, name):
        return getattr(self._loop, name)


class Transport:
    """Remembers what was done to it. `unsent` bytes are in its buffer."""

    def __init__(self, peer=("192.0.2.1", 1000)):
        self.peer, self.written, self.unsent = peer, b"", 0
        self.closed = self.aborted = self.ended = self.paused = False

    def get_extra_info(self, name):
        return self.peer if name == "peername" else None

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = self.aborted = True

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.ended = True

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def get_write_buffer_size(self):
        return self.unsent


class HttpPort:
    """`connect()` as often as you like; the application answers when `go` is set, after it has read the body.

    Close it with `aclose`: a task that is still pending when nothing refers to it any more is closed by the garbage collector, at any
    time, in any test.
    """

    def __init__(self, **limits):
        limits = HttpLimits(**limits)
        self.loop, self.registry = Loop(), CollectorRegistry()
        turns = PortTurns(parsing=Turns(), discarding=Turns())  # without rests, for which a test would have to wait
        self.port = Port(limits, ConnectionLimiter(limits), BodyBudget(limits.body_buffer_bytes), HttpMeter(self.registry), turns)
        self.go, self.reads, self.calls = asyncio.Event(), True, []
        self.go.set()
        config = uvicorn.Config(
            self._app, http=partial(Connection, self.port), interface="asgi3", lifespan="off", ws="none", log_config=None, access_log=False
        )
        config.load()
        state = ServerState()
        self._make = partial(config.http_protocol_class, config=config, server_state=state, app_state={}, _loop=self.loop)
        self.connections, self.tasks = [], state.tasks

    def connect(self, peer="192.0.2.1"):
        """A new connection."""
        connection = self._make()
        connection.connection_made(Transport((peer, 1000)))
        self.connections.append(connection)
        return connection

    async def aclose(self):
        """Lose every connection, and wait until the application has ended for each request."""
        self.go.set()
        for connection in self.connections:
            connection.connection_lost(None)
            if connection.cycle:
                connection.cycle.message_event.set()  # a test may have put off its turn by an hour
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def pass_time(self, seconds):
        """Let so much time pass, second by second, and everybody act."""
        for _ in range(int(seconds)):
            self.loop.now += 1
            for connection in self.connections:
                if not connection.transport.aborted:
                    connection.sweep(self.loop.now)
            self.port.bodies.settle(self.loop.now)
        await settled()

    def refused(self):
        """How often by reason, those that did happen."""
        counts = {str(reason): self.registry.get_sample_value("sickbay_http_refused_total", {"reason": reason}) for reason in Reason}
        return {reason: count for reason, count in counts.items() if count}

    async def _app(self, scope, receive, send):
        body = b""
        while self.reads and (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self.calls.append((scope["method"], scope["path"], body, scope["headers"]))
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def settled():
    """Let every task that can go on do so."""
    for _ in range(100):
        await asyncio.sleep(0)


def request(line=b"GET /x", headers=b"", body=b""):
    """The bytes of a request."""
    return line + b" HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n" + body


def answers(connection):
    """The statuses of the answers, in order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", connection.transport.written)]
