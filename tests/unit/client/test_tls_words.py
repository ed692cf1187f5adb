"""What a client says about TLS that fails: against real servers, a sentence that tells what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sickbay.adapters.tls.files import CertificateFiles
from sickbay.client import TLS, AsyncClient, SickbayError
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server
from sickbay.server.grpc.server import GrpcServer
from sickbay.server.service import Service
from tests.support.tls_ports import LONG_AGO, Papers


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """An authority."""
    return Papers(tmp_path / "papers")


def server(tls: CertificateFiles | None) -> GrpcServer:
    """With a Job API that implements nothing."""
    service = Service("sickbay.jobs.v1.JobService", add_JobServiceServicer_to_server, JobServiceServicer())
    return GrpcServer([service], host="127.0.0.1", port=0, hint="", tls=tls)


async def said(port: int, tls: TLS | bool) -> str:
    """What the client says."""
    async with AsyncClient(f"127.0.0.1:{port}", control_plane="", tls=tls, timeout=3) as client:
        with pytest.raises(SickbayError) as error:
            await client.get("0192f3a8-0000-7000-8000-000000000000")
    return str(error.value)


@pytest.fixture
async def secure(papers: Papers) -> AsyncIterator[int]:
    """A port that asks for certificates."""
    async with server(CertificateFiles(*map(str, papers.sign("server")), str(papers.ca))) as opened:
        yield opened.port


async def test_an_authority_that_is_not_trusted(secure, tmp_path):
    assert "name the authority's file, SICKBAY_TLS_CA_FILE" in await said(secure, TLS(Papers(tmp_path / "others").ca))
    assert "name the authority's file, SICKBAY_TLS_CA_FILE" in await said(secure, True)


async def test_another_name(secure, papers):
    assert "its certificate is for another name" in await said(secure, TLS(papers.ca, server_name="jobs.example.com"))


async def test_an_expired_certificate(papers):
    async with server(CertificateFiles(*map(str, papers.sign("old", **LONG_AGO)))) as opened:
        assert "its certificate has expired; renew" in await said(opened.port, TLS(papers.ca))


async def test_a_service_without_tls(papers):
    async with server(None) as opened:
        assert "it does not speak TLS" in await said(opened.port, TLS(papers.ca))


async def test_a_client_without_tls_or_without_a_valid_certificate(secure, papers, tmp_path):
    stranger = Papers(tmp_path / "others").sign("shop", "shop.internal")
    for tls in (False, TLS(papers.ca), TLS(papers.ca, *stranger), TLS(papers.ca, *papers.sign("old", "shop.internal", **LONG_AGO))):
        found = await said(secure, tls)
        assert "If it speaks TLS, set SICKBAY_TLS_CA_FILE" in found
        assert "SICKBAY_TLS_CERT_FILE and SICKBAY_TLS_KEY_FILE" in found
