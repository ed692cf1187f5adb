"""An endpoint that runs jobs, in any language and without Sickbay; here in plain Python.

Start each in a terminal, in this folder:

    export BILLING_SECRET="whsec_$(head -c 32 /dev/urandom | base64)"      # the same in both terminals
    python endpoint.py
    ../../.venv/bin/sickbay up --ephemeral --config sickbay.toml
    ../../.venv/bin/sickbay submit invoice '{"customer": "ada", "cents": 500}' --wait

An answer with 2xx is a success, and its JSON is the job's result; 503 is retried, 422 is the job's own fault.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300


def is_signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether whoever has the secret sent this, within the last five minutes (Standard Webhooks; libraries do the same)."""
    message, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256)).decode()
    return any(hmac.compare_digest(one, f"v1,{expected}") for one in headers.get("webhook-signature", "").split())


class Endpoint(BaseHTTPRequestHandler):
    """Takes one job at a time on each connection."""

    protocol_version = "HTTP/1.1"  # connections are kept
    invoices: dict[str, int] = {}  # noqa: RUF012 - in place of a database with a unique key

    def do_POST(self) -> None:
        """Run a job."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not is_signed(self.headers, body, os.environ["BILLING_SECRET"]):
            return self.answer(401, {"title": "not signed with BILLING_SECRET"})
        job = json.loads(body)
        if job.get("cents", 0) <= 0:
            return self.answer(422, {"title": "no invoice without an amount", "code": "NO_AMOUNT", "kind": "data"})
        # A job may come twice; its key is the same, and so is what was made of it.
        number = self.invoices.setdefault(self.headers["Idempotency-Key"], len(self.invoices) + 1)
        print(f"invoice {number} for {job['customer']}, run {self.headers['Sickbay-Attempt']}", flush=True)
        return self.answer(200, {"number": number})

    def answer(self, status: int, content: Mapping[str, object]) -> None:
        """Send JSON; a failure is a problem of RFC 9457."""
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status < HTTPStatus.BAD_REQUEST else "application/problem+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Nothing for each request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Endpoint)
    print(f"listening on port {server.server_address[1]}", flush=True)
    server.serve_forever()
