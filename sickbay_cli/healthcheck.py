"""The image's health check: `python -m sickbay_cli.healthcheck [jobapi|worker|controlplane]` asks the service in this container.

It calls GET /health/ready: whether the service has connected to its servers and is not stopping. A server that becomes unavailable later
does not make a container unhealthy, because replacing it (as Swarm does) would not help; what is down is printed, and shown by GET /health.
It imports nothing of Sickbay, so it takes hundredths of a second. It calls PORT, or else the default port of the service that is named;
without either all default ports that listen, because `sickbay up` has three. Exit code 0: all of them are healthy.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from typing import Final

PORTS: Final = {"jobapi": 3000, "worker": 3001, "controlplane": 3002}
ANYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened on
TIMEOUT_S: Final = 3
OK: Final = 200
MAX_BYTES: Final = 65_536


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Call, print one line for each port, and return the exit code."""
    host = environment.get("BIND_HOST", "")
    answers = {port: _ask("localhost" if host in ANYWHERE else host, port) for port in _ports(arguments, environment)}
    answered = {port: answer for port, answer in answers.items() if answer != _REFUSED}
    for port, answer in (answered or answers).items():
        print(f"port {port}: {answer}")  # noqa: T201 - what `docker inspect` shows
    return 0 if answered and all(answer.startswith(str(OK)) for answer in answered.values()) else 1


_REFUSED: Final = "connection refused"


def _ports(arguments: Sequence[str], environment: Mapping[str, str]) -> Sequence[int]:
    if environment.get("PORT"):
        return [int(environment["PORT"])]
    return [PORTS[name] for name in arguments] or list(PORTS.values())


def _ask(host: str, port: int) -> str:
    connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
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
