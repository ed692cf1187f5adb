"""The connection: TLS, tokens, deadlines, nobody there, threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme

from sickbay.client import (
    TLS,
    DeadlineExceeded,
    NewJob,
    ServerFault,
    Unavailable,
)
from sickbay.jobs.v1 import job_service_pb2 as pb
from tests.support.canned_services import closed_port
from tests.support.cli_services import JOB_ID, Fleet, job
from tests.support.client_answers import accepted, update
from tests.support.client_pair import BlockingPair


def test_a_server_that_is_no_job_api(client, fleet):
    with pytest.raises(ServerFault, match=f"the server at {fleet.address} is not a Job API of this version"):
        client.call("explain", JOB_ID)


def test_nobody_listens(kind, sleeps):
    address = f"127.0.0.1:{closed_port()}"
    with kind(address, sleeps=sleeps) as client, pytest.raises(Unavailable, match=f"no connection to the Job API at {address}") as caught:
        client.call("submit", "email", {}, timeout=1.0)
    assert caught.value.reason == ""


def test_a_slow_server_and_the_deadline(kind, fleet):
    released = threading.Event()
    fleet.answers["GetJob"] = lambda _: released.wait(60) and pb.GetJobResponse(job=job())
    with kind(fleet.address, timeout=0.3) as client:
        with pytest.raises(DeadlineExceeded, match=r"the Job API at .* did not answer within 0.3 s"):
            client.call("get", JOB_ID)
        released.set()
    assert len(fleet.calls) == 1


def test_a_token_goes_with_each_call(kind, fleet):
    fleet.answers |= {"GetJob": pb.GetJobResponse(job=job()), "WatchJob": [update("SUCCEEDED", "1")], "BatchSubmitJobs": accepted}
    with kind(fleet.address, token="secret") as client:
        client.call("get", JOB_ID)
        client.call("watch", JOB_ID)
        client.call("submit_many", [NewJob("email", {})])
    assert [found["authorization"] for found in fleet.metadata] == ["Bearer secret"] * 3


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(kind, tmp_path, mutual):
    authority = trustme.CA()
    server, own = authority.issue_cert("localhost"), authority.issue_cert("ada@example.com")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())], authority.cert_pem.bytes(), mutual
    )
    tls = TLS(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem") if mutual else TLS(tmp_path / "ca.pem")
    with Fleet(credentials) as fleet:
        fleet.answers["GetJob"] = pb.GetJobResponse(job=job())
        with kind(fleet.address, tls=tls, token="secret") as client:
            assert client.call("get", JOB_ID).job_id == JOB_ID
        with kind(fleet.address, timeout=0.5) as plain, pytest.raises(Unavailable):
            plain.call("get", JOB_ID)
    assert [found["authorization"] for found in fleet.metadata] == ["Bearer secret"]


async def test_a_call_that_is_cancelled_ends_at_once(fleet):
    from sickbay.client import AsyncClient

    released, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def answer(_request):
        loop.call_soon_threadsafe(begun.set)
        released.wait(60)
        return pb.GetJobResponse(job=job())

    fleet.answers["GetJob"] = answer
    async with AsyncClient(fleet.address) as client:
        task = asyncio.ensure_future(client.get(JOB_ID))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
    assert len(fleet.calls) == 1


def test_a_client_can_be_used_by_several_threads(fleet):
    fleet.answers["GetJob"] = lambda request: pb.GetJobResponse(job=job(request.job_id))
    with BlockingPair(fleet.address) as client, ThreadPoolExecutor(4) as pool:
        ids = [str(number) for number in range(40)]
        assert [found.job_id for found in pool.map(client.client.get, ids)] == ids


def test_a_client_can_be_used_after_it_was_closed(client, fleet):
    """Closing ends connections; the next call opens them anew."""
    fleet.answers["GetJob"] = pb.GetJobResponse(job=job())
    client.call("get", JOB_ID)
    client.call("close") if client.kind.__name__ == "AsyncClient" else client.client.close()
    assert client.call("get", JOB_ID).job_id == JOB_ID
