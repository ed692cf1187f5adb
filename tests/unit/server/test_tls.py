"""Both doors with client certificates: the same names over gRPC and REST, only of what was verified, and never what a client claims."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import Request, Response
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from sickbay.adapters.tls.files import CertificateFiles
from sickbay.domain.access import Principal, Role
from sickbay.domain.limits import HttpLimits, Limits
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, JobServiceStub, add_JobServiceServicer_to_server
from sickbay.ports.access import Credentials
from sickbay.server.access.control import Access
from sickbay.server.access.interceptor import AccessInterceptor
from sickbay.server.access.rest import control_access
from sickbay.server.grpc.server import LIVENESS, READINESS, GrpcServer
from sickbay.server.http.server import RestServer
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.service import Service
from sickbay.server.tls import names_over_http
from tests.support.tls_ports import Papers
from tests.support.waiting import until

NAME = "sickbay.jobs.v1.JobService"
SPIFFE = "spiffe://acme/shop"


class Seen:
    """An authenticator that lets everybody in, and remembers what came."""

    def __init__(self) -> None:
        self.credentials: list[Credentials] = []

    async def authenticate(self, credentials: Credentials) -> Principal:
        """See the port."""
        self.credentials.append(credentials)
        return Principal("somebody", frozenset({Role.ADMIN}), None)


class Jobs(JobServiceServicer):
    """Answers one call."""

    async def GetJob(self, request, context):  # noqa: N802 - the contract's name
        return pb.GetJobResponse()


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """An authority."""
    return Papers(tmp_path)


def certificates(papers: Papers, *, mutual: bool = True) -> CertificateFiles:
    """Of a server."""
    return CertificateFiles(*map(str, papers.sign("server")), str(papers.ca) if mutual else None)


def badge(papers: Papers, names: list[x509.GeneralName], common_name: str | None) -> tuple[Path, Path]:
    """A client's certificate with exactly these names."""
    key, now = ec.generate_private_key(ec.SECP256R1()), papers.authority
    issuer = x509.load_pem_x509_certificate(now.cert_pem.bytes())
    signing = serialization.load_pem_private_key(now.private_key_pem.bytes(), None)
    subject = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "acme")]
    subject += [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    made = x509.CertificateBuilder(
        issuer.subject,
        x509.Name(subject),
        key.public_key(),
        x509.random_serial_number(),
        issuer.not_valid_before_utc,
        issuer.not_valid_after_utc,
    )
    made = made.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else made
    certificate, secret = papers.folder / "badge.pem", papers.folder / "badge.key"
    certificate.write_bytes(made.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate, secret


@contextlib.asynccontextmanager
async def doors(tls: CertificateFiles | None, seen: Seen, **limits: object) -> AsyncIterator[tuple[GrpcServer, RestServer]]:
    """Both, with one who sees all credentials."""
    app = create_app("t", "d", "1")

    @app.get("/jobs")
    async def jobs(request: Request) -> Response:
        return json_response({"scheme": request.url.scheme})

    @app.get("/large")
    async def large() -> Response:
        return json_response("x" * 30_000_000)

    control_access(app, Access([seen]))
    http = replace(HttpLimits(), **limits)
    async with (
        GrpcServer(
            [Service(NAME, add_JobServiceServicer_to_server, Jobs())],
            host="127.0.0.1",
            port=0,
            hint="",
            tls=tls,
            interceptors=[AccessInterceptor(Access([seen]))],
        ) as rpc,
        RestServer(app, host="127.0.0.1", port=0, hint="", limits=http, registry=(registry := CollectorRegistry()), tls=tls) as rest,
    ):
        rest.registry = registry
        yield rpc, rest


async def call_both(papers: Papers, own: tuple[Path, Path] | None, rpc: GrpcServer, rest: RestServer) -> None:
    """With a certificate, and with what a client might make up."""
    forged = {"x-forwarded-client-cert": "URI=spiffe://root", "x509_common_name": "root", "sickbay.certificate": "root", "peer_uri": "root"}
    async with grpc.aio.secure_channel(f"localhost:{rpc.port}", papers.credentials(own)) as channel:
        await JobServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=20, metadata=tuple(forged.items()))
    async with httpx.AsyncClient(verify=papers.context(own), trust_env=False) as client:
        answer = await client.get(f"https://localhost:{rest.port}/jobs", headers=forged)
        assert answer.json() == {"scheme": "https"}


@pytest.mark.parametrize(
    ("alternative", "common_name", "wanted"),
    [
        ([], "shop", ("shop",)),
        ([x509.DNSName("shop.internal")], None, ("shop.internal",)),
        ([x509.UniformResourceIdentifier(SPIFFE)], None, (SPIFFE,)),
        (
            [x509.DNSName("b.internal"), x509.UniformResourceIdentifier(SPIFFE), x509.DNSName("a.internal"), x509.RFC822Name("a@b.c")],
            "shop",
            (SPIFFE, "b.internal", "a.internal", "shop"),
        ),
        ([x509.DNSName("shop.internal")], "shop.internal", ("shop.internal",)),
    ],
)
async def test_the_names_are_the_same_over_both_doors(papers, alternative, common_name, wanted):
    seen = Seen()
    async with doors(certificates(papers), seen) as (rpc, rest):
        await call_both(papers, badge(papers, alternative, common_name), rpc, rest)
    assert [one.certificate for one in seen.credentials] == [wanted, wanted]


async def refused_by_both(papers: Papers, own: tuple[Path, Path], rpc: GrpcServer, rest: RestServer) -> None:
    """Whoever has no name is nobody."""
    async with grpc.aio.secure_channel(f"localhost:{rpc.port}", papers.credentials(own)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await JobServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=20)
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    async with httpx.AsyncClient(verify=papers.context(own), trust_env=False) as client:
        assert (await client.get(f"https://localhost:{rest.port}/jobs")).status_code == 401


async def test_a_certificate_whose_names_are_of_no_use_is_nobodys(papers):
    seen = Seen()
    async with doors(certificates(papers), seen) as (rpc, rest):
        await refused_by_both(papers, badge(papers, [x509.RFC822Name("root@acme.example")], None), rpc, rest)
    assert seen.credentials == []


async def test_where_no_certificate_is_asked_for_none_counts(papers):
    seen = Seen()
    async with doors(certificates(papers, mutual=False), seen) as (rpc, rest):
        await refused_by_both(papers, papers.sign("shop", "shop.internal"), rpc, rest)
    assert seen.credentials == []


def test_no_certificate_has_no_names():
    assert names_over_http(None) == names_over_http({}) == ()


async def test_the_port_for_probes_answers_health_alone_and_follows_the_main_one(papers):
    async with (
        GrpcServer(
            [Service(NAME, add_JobServiceServicer_to_server, Jobs())],
            host="127.0.0.1",
            port=0,
            hint="",
            serving=False,
            tls=certificates(papers),
        ) as main,
        GrpcServer([], host="127.0.0.1", port=0, hint="", health_of=main, limits=Limits(connections=4)) as probes,
        grpc.aio.insecure_channel(f"127.0.0.1:{probes.port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(name: str) -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)).status)

        names = ("", NAME, READINESS, LIVENESS)
        assert [await status(name) for name in names] == [2, 2, 2, 1]
        await main.set_serving(True)
        await main.set_ready(True)
        assert [await status(name) for name in names] == [1, 1, 1, 1]
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=READINESS))
        assert (await watch.read()).status == 1
        await main.set_ready(False)
        assert (await watch.read()).status == 2
        watch.cancel()
        for rpc in (JobServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=20),):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await rpc
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def read(reader: asyncio.StreamReader) -> bytes:
    """All until the end."""
    async with asyncio.timeout(20):
        return await reader.read()


def refused(rest: RestServer) -> dict[str, float]:
    """What the HTTP port has refused, by reason."""
    samples = [sample for metric in rest.registry.collect() for sample in metric.samples if sample.name == "sickbay_http_refused_total"]
    return {sample.labels["reason"]: sample.value for sample in samples if sample.value}


async def test_a_handshake_that_stalls_is_ended_and_counted(papers):
    async with doors(certificates(papers), Seen(), header_timeout=0.3) as (_, rest):
        for first in (b"", b"\x16\x03\x01\x02\x00\x01", _hello()[:100]):
            reader, writer = await asyncio.open_connection("127.0.0.1", rest.port)
            writer.write(first)
            assert await read(reader) == b""
            writer.close()
        assert refused(rest) == {"silent": 3}


async def test_plaintext_is_ended_at_once(papers):
    async with doors(certificates(papers), Seen(), header_timeout=60) as (_, rest):
        reader, writer = await asyncio.open_connection("127.0.0.1", rest.port)
        writer.write(b"GET /jobs HTTP/1.1\r\nhost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not (await read(reader)).startswith(b"HTTP")
        writer.close()


async def test_after_its_handshake_a_client_has_the_time_of_a_header(papers):
    async with doors(certificates(papers, mutual=False), Seen(), header_timeout=0.3) as (_, rest):
        for first, reason in ((b"", "silent"), (b"GET /jobs HTTP/1.1\r\nx: ", "header_timeout")):
            reader, writer = await asyncio.open_connection("localhost", rest.port, ssl=papers.context())
            writer.write(first)
            await read(reader)
            writer.close()
            assert refused(rest)[reason] == 1


async def test_a_flood_of_handshakes_is_bounded_and_others_still_come_in(papers):
    async with doors(certificates(papers), Seen(), max_connections=1, max_connections_per_peer=1, header_timeout=60) as (rpc, rest):
        silent = [await asyncio.open_connection("127.0.0.1", rest.port) for _ in range(150)]
        await asyncio.to_thread(until, lambda: refused(rest).get("oldest", 0) >= 85)
        await call_both(papers, papers.sign("shop", "shop.internal"), rpc, rest)
        for _, writer in silent:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_half_read_responses_end(papers):
    async with doors(certificates(papers, mutual=False), Seen(), write_timeout=0.5) as (_, rest):
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # the kernel of this machine might take all of it
        small.connect(("127.0.0.1", rest.port))
        reader, writer = await asyncio.open_connection(sock=small, ssl=papers.context(), server_hostname="localhost", limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer any\r\n\r\n")
        await reader.readline()
        writer.transport.pause_reading()
        await asyncio.to_thread(until, lambda: refused(rest) == {"unread": 1})
        writer.transport.abort()


async def test_a_handshake_over_grpc_that_stalls_is_ended(papers):
    limits = Limits(handshake_s=0.3)
    service = Service(NAME, add_JobServiceServicer_to_server, Jobs())
    async with GrpcServer([service], host="127.0.0.1", port=0, hint="", tls=certificates(papers), limits=limits) as rpc:
        for first in (b"", _hello()[:100]):
            reader, writer = await asyncio.open_connection("127.0.0.1", rpc.port)
            writer.write(first)
            with contextlib.suppress(ConnectionResetError):
                assert await read(reader) == b""
            writer.close()


def _hello() -> bytes:
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()
