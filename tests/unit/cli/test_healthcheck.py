"""The image's health check against a small HTTP server."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from scripts.servers import free_port
from sickbay.domain.service_ports import DEFAULT_PORTS
from sickbay_cli import healthcheck
from tests.support.tls_ports import Papers


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Starts servers that answer GET /health with a code; their ports."""
    servers: list[HTTPServer] = []

    def start(code: int, body: bytes = b"", tls: ssl.SSLContext | None = None) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(code if self.path == "/health/ready" else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("code", "exit_code"), [(200, 0), (503, 1), (404, 1)])
def test_the_port_of_the_variable_decides(serve, capsys, code, exit_code):
    port = serve(code)
    assert healthcheck.main([], {"PORT": str(port)}) == exit_code
    assert capsys.readouterr().out == f"port {port}: {code}\n"


def test_the_documented_port_of_the_named_service_is_asked(serve, monkeypatch):
    monkeypatch.setattr(healthcheck, "PORTS", {"jobapi": serve(503), "worker": serve(200)})
    assert healthcheck.main(["worker"], {}) == 0
    assert healthcheck.main(["jobapi"], {}) == 1


def test_without_a_name_every_port_that_listens_must_be_well(serve, monkeypatch, capsys):
    well, silent = serve(200), free_port()
    monkeypatch.setattr(healthcheck, "PORTS", {"jobapi": well, "worker": silent})
    assert healthcheck.main([], {}) == 0
    assert capsys.readouterr().out == f"port {well}: 200\n"
    monkeypatch.setattr(healthcheck, "PORTS", {"jobapi": well, "worker": serve(503)})
    assert healthcheck.main([], {}) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"checks": {"broker": {"status": "down", "reason": "away"}, "ledger": {"status": "up"}}}', ", broker is down (away)"),
        (b"{}", ""),
        (b"[]", ""),
        (b"not JSON", ""),
        (b'{"checks": null}', ""),
        (b'{"checks": {"broker": 1}}', ""),
    ],
)
def test_what_is_down_behind_the_service_is_told_and_decides_nothing(serve, capsys, body, words):
    port = serve(200, body)
    assert healthcheck.main([], {"PORT": str(port)}) == 0
    assert capsys.readouterr().out == f"port {port}: 200{words}\n"


def test_where_nobody_listens_nothing_is_well(capsys):
    port = free_port()
    assert healthcheck.main([], {"PORT": str(port), "BIND_HOST": "127.0.0.1"}) == 1
    assert capsys.readouterr().out == f"port {port}: connection refused\n"


def test_whoever_hangs_or_speaks_no_http_is_not_well(monkeypatch, capsys):
    monkeypatch.setattr(healthcheck, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        assert healthcheck.main([], {"PORT": str(hanging.getsockname()[1])}) == 1
    assert "TimeoutError" in capsys.readouterr().out


def test_the_ports_are_those_of_the_services():
    """They are written there once more, so that the image's health check need not import the product."""
    assert {name.replace("-", ""): ports.http for name, ports in DEFAULT_PORTS.items()} == healthcheck.PORTS


@pytest.mark.parametrize("is_mutual", [False, True])
def test_with_tls_it_asks_by_tls(serve, capsys, tmp_path, is_mutual):
    papers = Papers(tmp_path)
    certificate, key = papers.sign("server", "jobs.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    variables = {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    if is_mutual:
        context.load_verify_locations(papers.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        variables["TLS_CLIENT_CA_FILE"] = str(papers.ca)
    port = serve(200, tls=context)
    assert healthcheck.main([], {"PORT": str(port)} | variables) == 0
    badge, secret = papers.sign("badge", "probe")
    own = {"SICKBAY_TLS_CERT_FILE": str(badge), "SICKBAY_TLS_KEY_FILE": str(secret)}
    assert healthcheck.main([], {"PORT": str(port)} | variables | own) == 0
    assert healthcheck.main([], {"PORT": str(port)} | variables | {"TLS_CLIENT_CA_FILE": "x", "TLS_CERT_FILE": "nowhere"}) == 1
    assert capsys.readouterr().out.count(f"port {port}: 200\n") == 2
