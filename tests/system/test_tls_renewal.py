"""Certificates are replaced while calls and streams go on: none is lost, and new connections see the new one within two seconds."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sickbay.client import AsyncClient
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product
from tests.support.tls_ports import Papers, SecretMount
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(120)
TIMES = 4
WITHIN_S = 2.0
BUSY_S = 3.0
"""What the machine may add, if other tests keep it busy."""


def shown(port: int, alpn: str) -> str:
    """The certificate that a new connection sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain) as secure:
        found = secure.getpeercert(binary_form=True)
    assert found
    return ssl.DER_cert_to_PEM_cert(found)


class Renewed:
    """A product whose certificate is in a folder as of a Secret."""

    def __init__(self, folder: Path, log_format: str = "json") -> None:
        self.papers, self.mount = Papers(folder / "papers"), SecretMount(folder / "mount")
        self.put()
        files = {"TLS_CERT_FILE": str(self.mount.folder / "tls.crt"), "TLS_KEY_FILE": str(self.mount.folder / "tls.key")}
        self.clinic, self.settings = Clinic(folder), {"JOB_HANDLERS": "clinic_handlers", "LOG_FORMAT": log_format} | files
        self.product = Product(self.clinic.folder, self.settings).ready()

    def put(self) -> str:
        """A new one; returns it."""
        certificate, key = self.papers.pair()
        self.mount.put(tls_crt=certificate, tls_key=key)
        return certificate.decode("ascii").replace("\r\n", "\n").strip()

    def sees(self, certificate: str) -> bool:
        """Whether new connections to all six ports do."""
        return all(
            shown(port, alpn).strip() == certificate
            for ports in self.product.ports.values()
            for port, alpn in zip(ports, ("http/1.1", "h2"), strict=True)
        )


class Load:
    """Submits jobs over REST all the time, on one connection or on a new one each time."""

    def __init__(self, port: int, papers: Papers, *, is_kept: bool) -> None:
        self._url, self._papers, self._is_kept = f"https://localhost:{port}/jobs", papers, is_kept
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._call)
        self.failures: list[str] = []
        self.count = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        while not self._stop.is_set():
            with httpx.Client(verify=self._papers.context(), trust_env=False, timeout=30) as client:
                self._submit(client)
                while self._is_kept and not self._stop.is_set():
                    self._submit(client)

    def _submit(self, client: httpx.Client) -> None:
        try:
            answer = client.post(self._url, json={"jobType": "ok", "payload": {}})
            if answer.status_code != httpx.codes.ACCEPTED:
                self.failures.append(answer.text)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
        self.count += 1


@pytest.fixture
def renewed(tmp_path):
    """It stops at the end."""
    made = Renewed(tmp_path)
    yield made
    made.product.stop()


def test_nothing_is_lost_while_certificates_are_replaced(renewed):
    rest, rpc = renewed.product.ports["Job API"]
    kept, fresh = Load(rest, renewed.papers, is_kept=True), Load(rest, renewed.papers, is_kept=False)

    async def streams() -> None:
        async with AsyncClient(f"localhost:{rpc}", control_plane="", tls=renewed.papers.tls()) as client:
            for _ in range(TIMES):
                certificate, began = renewed.put(), time.monotonic()
                while not await asyncio.to_thread(renewed.sees, certificate):
                    assert time.monotonic() - began < WITHIN_S + BUSY_S
                    job = await client.submit("ok", {})
                    assert (await client.wait(job.job_id, timeout=30)).state == "SUCCEEDED"

    with kept, fresh:
        until(lambda: kept.count and fresh.count)
        asyncio.run(streams())
    for load in (kept, fresh):
        assert load.failures == []
        assert load.count > TIMES


def test_an_open_stream_goes_on(renewed):
    _, rpc = renewed.product.ports["Job API"]
    with grpc.secure_channel(f"localhost:{rpc}", renewed.papers.credentials()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        for _ in range(2):
            certificate = renewed.put()
            until(lambda certificate=certificate: renewed.sees(certificate))
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING
        renewed.product.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


def test_killed_in_the_middle_of_a_replacement_it_starts_with_what_is_there(renewed):
    certificate, key = renewed.papers.pair()
    renewed.product.kill()
    renewed.mount.put(tls_crt=certificate, tls_key=key)
    renewed.product = Product(renewed.clinic.folder, renewed.settings).ready()
    assert renewed.sees(certificate.decode("ascii").strip())


def test_half_a_replacement_changes_nothing(tmp_path):
    renewed = Renewed(tmp_path, "console")
    before = shown(renewed.product.ports["Job API"][0], "http/1.1").strip()
    certificate, _ = renewed.papers.pair()
    (renewed.mount.folder / "..data" / "tls.crt").write_bytes(certificate)
    assert renewed.product.err.wait_for(lambda line: "does not belong to the certificate" in line)
    assert renewed.sees(before)
    renewed.product.terminate()
    assert renewed.product.wait() == 0


def test_what_is_wrong_ends_the_start_with_one_sentence(tmp_path):
    papers = Papers(tmp_path / "papers")
    certificate, _ = papers.sign("server")
    _, other = papers.sign("other")
    for settings, words in (
        ({"TLS_CERT_FILE": str(certificate)}, "Error: TLS needs both TLS_CERT_FILE and TLS_KEY_FILE; set both, or neither"),
        ({"TLS_CLIENT_CA_FILE": str(papers.ca)}, "Error: TLS_CLIENT_CA_FILE needs TLS: set TLS_CERT_FILE and TLS_KEY_FILE, too"),
        ({"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(other)}, f"Error: TLS_KEY_FILE: the key in {other} does not belong to"),
    ):
        product = Product(tmp_path, settings)
        assert product.wait() == 1
        assert product.err.text.startswith(words)
