"""TLS and mutual TLS on all six ports: gRPC and REST, by the clients that people have, and what is refused."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sickbay.client import Client
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product
from tests.support.tls_ports import LONG_AGO, Papers

pytestmark = pytest.mark.timeout(120)
SERVICES = ("Job API", "Worker", "Control plane")
Badge = tuple[Path, Path] | None
GRPCURL = Path(sys.executable).with_name("grpcurl")


class Secure:
    """A product with TLS, its authority, and the certificate that a client needs, if any."""

    def __init__(self, folder: Path, *, mutual: bool) -> None:
        self.papers = Papers(folder / "papers")
        self.badge: Badge = self.papers.sign("shop", "shop.internal") if mutual else None
        settings = self.papers.for_server(self.papers.ca if mutual else None)
        self.product = Product(Clinic(folder).folder, {"JOB_HANDLERS": "clinic_handlers", "LOG_FORMAT": "json"} | dict(settings)).ready()

    def health(self, service: str, badge: Badge) -> str:
        """What gRPC answers."""
        address = f"localhost:{self.product.ports[service][1]}"
        with grpc.secure_channel(address, self.papers.credentials(badge)) as channel:
            request = health_pb2.HealthCheckRequest(service="readiness")
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)
            except grpc.RpcError as error:
                return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def get(self, service: str, path: str, badge: Badge) -> httpx.Response:
        """What REST answers."""
        url = f"https://localhost:{self.product.ports[service][0]}{path}"
        return httpx.get(url, verify=self.papers.context(badge), trust_env=False, timeout=20)

    def environment(self, badge: Badge) -> dict[str, str]:
        """For the command."""
        names = {} if badge is None else {"SICKBAY_TLS_CERT_FILE": str(badge[0]), "SICKBAY_TLS_KEY_FILE": str(badge[1])}
        ports = {name: f"localhost:{self.product.ports[service][1]}" for name, service in _ADDRESSES.items()}
        return ports | {"SICKBAY_TLS_CA_FILE": str(self.papers.ca)} | names


_ADDRESSES = {"SICKBAY_JOBAPI": "Job API", "SICKBAY_WORKER": "Worker", "SICKBAY_CONTROL_PLANE": "Control plane"}


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mutual"])
def secure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """One for all."""
    made = Secure(tmp_path_factory.mktemp("secure"), mutual=request.param)
    yield made
    made.product.stop()


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """One that asks for certificates."""
    made = Secure(tmp_path_factory.mktemp("mutual"), mutual=True)
    yield made
    made.product.stop()


@pytest.mark.parametrize("service", SERVICES)
def test_every_port_answers(secure, service):
    assert secure.health(service, secure.badge) == "SERVING"
    assert secure.get(service, "/health/ready", secure.badge).status_code == 200


def test_a_job_goes_all_the_way_by_the_client(secure):
    ports = secure.product.ports
    addresses = f"localhost:{ports['Job API'][1]}", f"localhost:{ports['Control plane'][1]}"
    with Client(addresses[0], control_plane=addresses[1], tls=secure.papers.tls(secure.badge)) as client:
        submitted = client.submit("ok", {})
        assert client.wait(submitted.job_id, timeout=30).state == "SUCCEEDED"


def test_the_command(secure):
    def sickbay(*words):
        done = [sys.executable, "-m", "sickbay_cli", *words]
        return subprocess.run(
            done, env=secure.environment(secure.badge) | {"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )

    assert sickbay("health").returncode == 0, sickbay("health").stdout + sickbay("health").stderr


@pytest.mark.parametrize("service", SERVICES)
def test_curl_and_grpcurl(secure, service):
    rest, rpc = secure.product.ports[service]
    badge = [] if secure.badge is None else ["--cert", secure.badge[0], "--key", secure.badge[1]]
    curl = [shutil.which("curl"), "-sS", "--noproxy", "*", "--cacert", secure.papers.ca, *badge, f"https://localhost:{rest}/health/live"]
    assert subprocess.run(curl, capture_output=True, text=True, check=True).stdout.startswith('{"status":"ok"')
    badge = [] if secure.badge is None else ["-cert", secure.badge[0], "-key", secure.badge[1]]
    grpcurl = [GRPCURL, "-cacert", secure.papers.ca, *badge, f"localhost:{rpc}", "grpc.health.v1.Health/Check"]
    assert "SERVING" in subprocess.run(grpcurl, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("door", [0, 1], ids=["rest", "grpc"])
@pytest.mark.parametrize("service", SERVICES)
def test_old_versions_are_refused(secure, service, door):
    versions = {ssl.TLSVersion.TLSv1: False, ssl.TLSVersion.TLSv1_1: False, ssl.TLSVersion.TLSv1_2: True, ssl.TLSVersion.TLSv1_3: True}
    found = {version: _handshakes(_speaking(version, secure), secure.product.ports[service][door]) for version in versions}
    assert found == versions


def _speaking(version, secure):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    if secure.badge is not None:
        context.load_cert_chain(*secure.badge)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        context.minimum_version = version
    return context


def _handshakes(context, port):
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        try:
            context.wrap_socket(plain).close()
        except OSError:
            return False
    return True


@pytest.mark.parametrize("service", SERVICES)
def test_who_has_no_valid_certificate_is_refused(mutual, tmp_path, service):
    others = Papers(tmp_path)
    badges = [None, mutual.papers.sign("old", "shop.internal", **LONG_AGO), others.sign("stranger", "shop.internal")]
    for badge in badges:
        assert mutual.health(service, badge) == "UNAVAILABLE"
        with pytest.raises(httpx.TransportError):
            mutual.get(service, "/health/live", badge)


def test_plaintext_is_refused(secure):
    rest, rpc = secure.product.ports["Job API"]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{rest}/health", trust_env=False, timeout=20)
    with grpc.insecure_channel(f"localhost:{rpc}") as channel, pytest.raises(grpc.RpcError) as error:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
