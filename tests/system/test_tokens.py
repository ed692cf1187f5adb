"""Tokens of an issuer, over REST and gRPC; a stream ends when its token expires."""

from __future__ import annotations

import time

import grpc
import httpx
import pytest

from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.fake_dependency import Clinic
from tests.support.token_issuer import AUDIENCE, IssuerServer, SigningKey
from tests.system.conftest import QUICK, Start

pytestmark = pytest.mark.timeout(120)
KEY = SigningKey("a")


def test_tokens_open_both_doors_until_they_expire(start: Start, own_clinic: Clinic):
    """REST and gRPC refuse and admit alike, and a watch ends with its token."""
    with IssuerServer(KEY).serving() as issuer:
        env = {"AUTH": "required", "JWT_ISSUER": issuer.url, "JWT_AUDIENCE": AUDIENCE, "JWT_LEEWAY": "0"}
        rest_port, grpc_port = start(own_clinic.folder, QUICK | env).ready().ports["Job API"]

        def token(lasts_s, **changes):
            claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "shop", "roles": ["submit"], "tenants": "*", "exp": time.time() + lasts_s}
            return KEY.token(claims | changes)

        def metadata(bearer):
            return [("authorization", f"Bearer {bearer}")]

        with httpx.Client(base_url=f"http://127.0.0.1:{rest_port}") as rest:

            def submit(bearer, do="ok"):
                body = {"jobType": "email", "payload": {"do": do}}
                return rest.post("/jobs", json=body, headers={"authorization": f"Bearer {bearer}"} if bearer else {})

            assert submit("").status_code == 401
            assert submit(token(60, aud="other")).status_code == 401
            assert submit(token(60, roles=["view"])).status_code == 403
            expired = submit(token(-1))
            assert (expired.status_code, "expired" in expired.text) == (401, True)
            assert submit(token(60)).status_code == 202
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            jobs = JobServiceStub(channel)
            request = pb.SubmitJobRequest(job_type="email", payload_json=b'{"do": "API_TIMEOUT", "retryAfter": 60}')
            with pytest.raises(grpc.RpcError) as caught:
                jobs.SubmitJob(request, metadata=metadata(token(60, iss="https://other")))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            job_id = jobs.SubmitJob(request, metadata=metadata(token(60))).job.job_id
            watching = jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), metadata=metadata(token(3)), timeout=30)
            seen = []
            with pytest.raises(grpc.RpcError) as caught:
                seen.extend(watching)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "expired" in caught.value.details()
