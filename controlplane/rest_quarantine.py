"""The REST routes of QuarantineService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel, ConfigDict, Field

from gen.sickbay.jobs.v1 import quarantine_service_pb2 as pb
from gen.sickbay.jobs.v1.job_pb2 import Job
from sickbay.rpc import schemas
from sickbay.rpc.body import Body, read_body, text
from sickbay.rpc.enums import REASON_NAMES, number
from sickbay.rpc.openapi import JOB_FIELDS, fails, takes
from sickbay.rpc.rest import json_response
from sickbay.rpc.views import failure_group_view, job_view, quarantined_view

_TEXT: Mapping[str, Any] = {"type": "string"}

if TYPE_CHECKING:  # stubs for asyncio exist for type checkers only
    from gen.sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceAsyncStub


class ResubmitBody(Body, frozen=True):
    """An edit on the way back."""

    payload: msgspec.Raw = msgspec.Raw()
    job_type: str = ""
    etag: str = ""
    by: str = ""


class DiscardBody(Body, frozen=True):
    """Who throws a job away."""

    etag: str = ""
    by: str = ""


class QuarantineQuery(BaseModel):
    """The parameters of `GET /quarantine`."""

    model_config = ConfigDict(extra="forbid")

    jobType: str = ""
    tenant: str = ""
    state: str = Field(default="", json_schema_extra={"enum": ["", "PARKED", "QUARANTINED"]})
    reason: str = Field(default="", json_schema_extra={"enum": ["", *REASON_NAMES]})
    errorCode: str = ""
    fingerprint: str = ""
    minAgeSeconds: int | None = Field(default=None, ge=0, le=10**9)
    pageSize: int = Field(default=0, ge=0, le=1000)
    pageToken: str = ""


class GroupsQuery(BaseModel):
    """The parameters of `GET /quarantine/groups`."""

    model_config = ConfigDict(extra="forbid")

    jobType: str = ""
    tenant: str = ""
    pageSize: int = Field(default=0, ge=0, le=1000)
    pageToken: str = ""


def add_quarantine(app: FastAPI, quarantine: QuarantineServiceAsyncStub) -> None:
    """Add the routes; every operation id is the name of its RPC."""

    @app.get(
        "/quarantine", operation_id="ListQuarantinedJobs", response_model=schemas.QuarantineBody, responses=fails(400), tags=["quarantine"]
    )
    async def list_quarantined(query: Annotated[QuarantineQuery, Query()]) -> Response:
        """Parked and quarantined jobs, longest waiting first, without payloads."""
        reply = await quarantine.ListQuarantinedJobs(
            pb.ListQuarantinedJobsRequest(
                job_type=query.jobType,
                tenant=query.tenant,
                state=number(Job.State, "STATE", query.state),
                reason=number(pb.QuarantinedJob.Reason, "REASON", query.reason),
                error_code=query.errorCode,
                fingerprint=query.fingerprint,
                min_age=None if query.minAgeSeconds is None else Duration(seconds=query.minAgeSeconds),
                page_size=query.pageSize,
                page_token=query.pageToken,
            )
        )
        return json_response({"count": reply.total_size, "jobs": list(map(quarantined_view, reply.jobs)), **_more(reply.next_page_token)})

    @app.get(
        "/quarantine/groups", operation_id="ListFailureGroups", response_model=schemas.GroupsBody, responses=fails(400), tags=["quarantine"]
    )
    async def groups(query: Annotated[GroupsQuery, Query()]) -> Response:
        """Set-aside jobs by what looks like one cause, largest group first."""
        asked = pb.ListFailureGroupsRequest(
            job_type=query.jobType, tenant=query.tenant, page_size=query.pageSize, page_token=query.pageToken
        )
        reply = await quarantine.ListFailureGroups(asked)
        return json_response({"groups": list(map(failure_group_view, reply.groups)), **_more(reply.next_page_token)})

    @app.get(
        "/quarantine/{jobId}",
        operation_id="GetQuarantinedJob",
        response_model=schemas.QuarantinedBody,
        responses=fails(400, 404),
        tags=["quarantine"],
    )
    async def get_quarantined(jobId: str) -> Response:
        """One of them with its payload, revisions and history."""
        return json_response(quarantined_view((await quarantine.GetQuarantinedJob(pb.GetQuarantinedJobRequest(job_id=jobId))).job))

    @app.post(
        "/quarantine/{jobId}/resubmit",
        operation_id="ResubmitJob",
        response_model=schemas.JobBody,
        responses=fails(400, 404, 409, 413),
        openapi_extra=takes(
            {"payload": JOB_FIELDS["payload"], "jobType": JOB_FIELDS["jobType"], "etag": _TEXT, "by": _TEXT}, can_be_missing=True
        ),
        tags=["quarantine"],
    )
    async def resubmit(jobId: str, request: Request) -> Response:
        """Bring a job back with fresh retries, as it is or with an edited payload or type; send the `etag` you read with an edit."""
        body = await read_body(request, ResubmitBody)
        payload = text(body.payload)
        content: dict[str, Any] = {"payload_json": payload} if payload else {}
        asked = pb.ResubmitJobRequest(job_id=jobId, job_type=body.job_type, etag=body.etag, actor=body.by, **content)
        return json_response(job_view((await quarantine.ResubmitJob(asked)).job))

    @app.post(
        "/quarantine/{jobId}/discard",
        operation_id="DiscardJob",
        response_model=schemas.JobBody,
        responses=fails(400, 404, 409, 413),
        openapi_extra=takes({"etag": _TEXT, "by": _TEXT}, can_be_missing=True),
        tags=["quarantine"],
    )
    async def discard(jobId: str, request: Request) -> Response:
        """Throw a job away for good."""
        body = await read_body(request, DiscardBody)
        return json_response(job_view((await quarantine.DiscardJob(pb.DiscardJobRequest(job_id=jobId, etag=body.etag, actor=body.by))).job))


def _more(token: str) -> Mapping[str, str]:
    return {"nextPageToken": token} if token else {}
