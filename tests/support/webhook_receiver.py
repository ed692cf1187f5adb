"""A webhook that answers as a test says, and keeps what it was sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
TOLERANCE_S = 300


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def verify(received: Received, secret: str = SECRET, now: float | None = None) -> None:
    """As the specification of Standard Webhooks tells a receiver to; AssertionError if it must not be trusted."""
    moment, timestamp = time.time() if now is None else now, received.headers["webhook-timestamp"]
    assert abs(moment - int(timestamp)) <= TOLERANCE_S, "a replay"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{received.headers['webhook-id']}.{timestamp}.".encode() + received.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    signatures = [one.partition(",") for one in received.headers["webhook-signature"].split(" ")]
    assert any(hmac.compare_digest(found, expected) for version, _, found in signatures if version == "v1"), "not signed with this secret"


class Receiver:
    """Listens on a free port of this machine, or on `port`; `answer` is called with each request and returns status, headers and body."""

    def __init__(self, answer: Callable[[Received], Any] = lambda _: 204, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.received.append(request)
                answer_ = answer(request)
                status, headers, body = (*answer_, b"")[:3] if isinstance(answer_, tuple) else (answer_, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/T0KEN?a=b"

    @property
    def types(self) -> list[str]:
        """The kinds of events, each repeat once, in the order of their first coming."""
        seen = {one.event["id"]: one.event["type"].removeprefix("sickbay.incident.") for one in self.received}
        return list(seen.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
