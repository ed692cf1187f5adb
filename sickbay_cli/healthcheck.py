"""The image's health check: `python -m sickbay_cli.healthcheck [jobapi|worker|controlplane]` asks the service in this container.

It calls GET /health/ready: whether the service has connected to its servers and is not stopping. A server that becomes unavailable later
does not make a container unhealthy, because replacing it (as Swarm does) would not help; what is down is printed, and shown by GET /health.
With TLS_CERT_FILE it asks by TLS; the certificate need not be for localhost, since nobody else can listen here. A service that asks for
certificates of clients gets that of SICKBAY_TLS_CERT_FILE and SICKBAY_TLS_KEY_FILE, or its own.

It imports nothing of Sickbay, so it takes hundredths of a second. It calls PORT, or else the default port of the service that is named;
without either all default ports that listen, because `sickbay up` has three. Exit code 0: all of them are healthy.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final

PORTS: Final = {"jobapi": 3000, "worker": 3001, "controlplane": 3002}
ANYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened on
TIMEOUT_S: Final = 3
OK: Final = 200
MAX_BYTES: Final = 65_536


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Call, print one line for each port, and return the exit code."""
    host = environment.get("BIND_HOST", "")
    answers = {port: _ask("localhost" if host in ANYWHERE else host, port, environment) for port in _ports(arguments, environment)}
    answered = {port: answer for port, answer in answers.items() if answer != _REFUSED}
    for port, answer in (answered or answers).items():
        print(f"port {port}: {answer}")  # noqa: T201 - what `docker inspect` shows
    return 0 if answered and all(answer.startswith(str(OK)) for answer in answered.values()) else 1


_REFUSED: Final = "connection refused"


def _ports(arguments: Sequence[str], environment: Mapping[str, str]) -> Sequence[int]:
    if environment.get("PORT"):
        return [int(environment["PORT"])]
    return [PORTS[name] for name in arguments] or list(PORTS.values())


def _ask(host: str, port: int, environment: Mapping[str, str]) -> str:
    try:
        connection = _connection(host, port, environment)
    except OSError as error:
        return f"{type(error).__name__} {error}"
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return f"{answer.status}{_down(answer.read(MAX_BYTES))}"
    except ConnectionRefusedError:
        return _REFUSED
    except (OSError, HTTPException) as error:
        return f"{type(error).__name__} {error}"
    finally:
        connection.close()


def _connection(host: str, port: int, environment: Mapping[str, str]) -> HTTPConnection:
    """OSError if a certificate cannot be read."""
    if not environment.get("TLS_CERT_FILE"):
        return HTTPConnection(host, port, timeout=TIMEOUT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if environment.get("TLS_CLIENT_CA_FILE"):
        prefix = "SICKBAY_TLS" if environment.get("SICKBAY_TLS_CERT_FILE") else "TLS"
        context.load_cert_chain(environment[f"{prefix}_CERT_FILE"], environment.get(f"{prefix}_KEY_FILE"), password="")
    return HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _down(body: bytes) -> str:
    """What is down behind the service, according to its response."""
    try:
        checks = json.loads(body)["checks"]
        down = [f"{name} is down ({check['reason']})" for name, check in checks.items() if check["status"] == "down"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return "".join(f", {one}" for one in down)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
