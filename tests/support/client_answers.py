"""What the tests of both clients answer and expect."""

from __future__ import annotations

from typing import Any

import grpc

from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_service_pb2 as pb
from tests.support.cli_services import job

OPEN = Fault(grpc.StatusCode.UNAVAILABLE, "the circuit is open", "CIRCUIT_OPEN", 30.0)
FULL = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "the limit is reached", "SUBMISSION_RATE_EXCEEDED", 2.0)
BEGUN = Fault(grpc.StatusCode.ABORTED, "the first is in progress", "REQUEST_IN_PROGRESS", 1.0)
AWAY = Fault(grpc.StatusCode.UNAVAILABLE, "the connection was reset")


def accepted(request: pb.BatchSubmitJobsRequest) -> pb.BatchSubmitJobsResponse:
    return pb.BatchSubmitJobsResponse(results=[pb.BatchSubmitResult(job_id=f"id-{one.payload_json}") for one in request.requests])


def update(state: str, token: str, **fields: Any) -> pb.WatchJobResponse:
    return pb.WatchJobResponse(job=job(state=state, **fields), resume_token=token)


def one_by_one(*answers: object) -> object:
    left = iter(answers)
    return lambda _request: next(left)
