"""The passwords of servers that are away stay out of logs and answers. Servers that refuse them: tests/contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from scripts.servers import free_port
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet, Service
from tests.support.plain_http import NO_TLS
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(120)
SECRET: Final = "hunter2"
SCHEMES: Final = {"RABBITMQ_URL": "amqp", "REDIS_URL": "redis", "DATABASE_URL": "postgresql"}


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Fleet]:
    """All three servers are where nobody listens."""
    port = free_port()
    path = {"DATABASE_URL": "/sickbay"}
    urls = {name: f"{scheme}://me:{SECRET}@127.0.0.1:{port}{path.get(name, '')}" for name, scheme in SCHEMES.items()}
    with Fleet(Clinic(tmp_path).folder, urls | {"JOB_HANDLERS": "clinic_handlers", "LOG_LEVEL": "DEBUG"}) as fleet:
        yield fleet


def answers(service: Service, port: int) -> list[str]:
    """What it says of its health, of its metrics and of a request."""
    texts = [
        httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30, trust_env=False, verify=NO_TLS).text
        for path in ("/health", "/metrics", "/jobs", "/breakers")
    ]
    assert service.process.poll() is None
    return texts


@pytest.mark.parametrize("module", ["jobapi", "worker", "controlplane"])
def test_servers_that_are_away(away: Fleet, module: str) -> None:
    port = free_port()
    (service,) = away.launch(module, PORT=str(port))
    until(lambda: is_up(port))
    assert service.logged("RabbitMQ")
    told = answers(service, port)
    service.terminate()
    service.wait()
    assert SECRET not in service.err.text + service.out.text + "".join(told)


def is_up(port: int) -> bool:
    try:
        return bool(httpx.get(f"http://127.0.0.1:{port}/health", timeout=10, trust_env=False, verify=NO_TLS).status_code)
    except httpx.TransportError:
        return False
