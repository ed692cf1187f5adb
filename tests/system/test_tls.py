"""The distributed form where every server is reached by TLS, and what a service does about a server that it must not trust."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.tls_ports import Papers
from tests.support.tls_servers import Authority, TlsPostgreSQL, TlsRabbitMQ, TlsRedis, public_authority
from tests.system.conftest import QUICK

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def secure() -> Iterator[Mapping[str, str]]:
    """The three URLs, as docs/distributed.md writes them."""
    with (
        public_authority() as authority,
        TlsRabbitMQ(authority) as rabbitmq,
        TlsRedis(authority) as redis,
        TlsPostgreSQL(authority) as postgres,
    ):
        yield {
            "RABBITMQ_URL": f"amqps://guest:guest@localhost:{rabbitmq.tls_port}?cafile={authority.ca}",
            "REDIS_URL": f"rediss://localhost:{redis.tls_port}?ssl_ca_certs={authority.ca}",
            "DATABASE_URL": f"postgresql://postgres@localhost:{postgres.port}/postgres?sslmode=verify-full&sslrootcert={authority.ca}",
        }


@pytest.fixture
def fleet(own_clinic: Clinic, secure: Mapping[str, str]) -> Iterator[Fleet]:
    """Services that find all three servers by TLS."""
    with Fleet(own_clinic.folder, QUICK | dict(secure)) as made:
        yield made


def test_a_job_goes_all_the_way(fleet):
    fleet.launch_all(workers=1).ready()
    with Clients(fleet) as sickbay:
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
    assert fleet.workers[0].logged("the shared breakers are used again")


def trusting_a_stranger(url: str, folder: Path) -> str:
    """The URL with another authority than the one that signed the server's certificate."""
    return f"{url.rpartition('=')[0]}={Authority(folder).ca}"


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("RABBITMQ_URL", "; name the CA file in RABBITMQ_URL with ?cafile=/path/to/ca.pem"),
        ("DATABASE_URL", "the server's certificate is not signed by sslrootcert, or is for another host"),
    ],
)
def test_a_service_ends_with_one_sentence(fleet, tmp_path, variable, sentence):
    [worker] = fleet.launch("worker", **{variable: trusting_a_stranger(fleet.env[variable], tmp_path)})
    worker.wait()
    assert fleet.retire(worker) == 1
    [said] = [line for line in worker.err.text.splitlines() if not line.startswith("{")]
    assert variable in said
    assert said.endswith(sentence)


def test_a_worker_does_without_such_a_redis_and_says_why(fleet, tmp_path):
    patient = trusting_a_stranger(fleet.env["REDIS_URL"].replace("?", "?socket_timeout=10&socket_connect_timeout=10&"), tmp_path)
    fleet.launch("controlplane")
    [worker] = fleet.launch("worker", REDIS_URL=patient)
    assert worker.logged("certificate verification failed; name the CA file in REDIS_URL with ?ssl_ca_certs=/path/to/ca.pem")
    worker.ready()


def test_the_ports_of_the_three_services_with_client_certificates_and_a_port_for_probes(fleet, tmp_path):
    papers = Papers(tmp_path / "papers")
    badge = papers.sign("shop", "shop.internal")
    fleet.launch_all(workers=1, HEALTH_PORT="0", **papers.for_server(papers.ca)).ready()
    for service in (one for many in fleet.services.values() for one in many):
        rest, rpc = service.ports
        answer = httpx.get(f"https://localhost:{rest}/health/ready", verify=papers.context(badge), trust_env=False, timeout=20)
        assert answer.status_code == 200
        found = re.search(r"health alone, without TLS: gRPC on port (\d+)", service.err.text)
        assert found
        for channel in (
            grpc.secure_channel(f"localhost:{rpc}", papers.credentials(badge)),
            grpc.insecure_channel(f"127.0.0.1:{found[1]}"),
        ):
            with channel:
                answered = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=20)
                assert answered.status == health_pb2.HealthCheckResponse.SERVING
