"""The REST routes of QuarantineService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel, ConfigDict, Field

from sickbay.jobs.v1 import quarantine_service_pb2 as pb
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.server.enums import REASON_NAMES, number
from sickbay.server.rest import schemas
from sickbay.server.rest.app import json_response
from sickbay.server.rest.body import Body, read_body, text
from sickbay.server.rest.guard import Name
from sickbay.server.rest.openapi import JOB_FIELDS, changes, fails, takes
from sickbay.server.rest.views import failure_group_view, job_view, quarantined_view, requeued_view

_TEXT: Mapping[str, Any] = {"type": "string"}

if TYPE_CHECKING:  # stubs for asyncio exist for type checkers only
    from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceAsyncStub


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


_FLAG: Mapping[str, Any] = {"type": "boolean"}
_REQUEUE_FIELDS: dict[str, Any] = {
    "jobIds": {"type": "array", "items": _TEXT, "maxItems": 500},
    "jobType": _TEXT,
    "tenant": _TEXT,
    "minAgeSeconds": {"type": "integer", "minimum": 1, "maximum": 10**9},
    "evenIfWaiting": _FLAG,
    "discardWithoutPayload": _FLAG,
    "validateOnly": _FLAG,
    "by": _TEXT,
    "pageSize": {"type": "integer", "minimum": 0, "maximum": 1000},
    "pageToken": _TEXT,
}


class RequeueBody(Body, frozen=True):
    """Which jobs may be lost, and what to do with them."""

    job_ids: tuple[str, ...] = ()
    job_type: str = ""
    tenant: str = ""
    min_age_seconds: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | msgspec.UnsetType = msgspec.UNSET
    even_if_waiting: bool = False
    discard_without_payload: bool = False
    validate_only: bool = False
    by: str = ""
    page_size: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    page_token: str = ""


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
    async def get_quarantined(jobId: Name) -> Response:
        """One of them with its payload, revisions and history."""
        return json_response(quarantined_view((await quarantine.GetQuarantinedJob(pb.GetQuarantinedJobRequest(job_id=jobId))).job))

    @app.post(
        "/quarantine/{jobId}/resubmit",
        operation_id="ResubmitJob",
        response_model=schemas.JobBody,
        responses=changes(404, 409, 413),
        openapi_extra=takes(
            {"payload": JOB_FIELDS["payload"], "jobType": JOB_FIELDS["jobType"], "etag": _TEXT, "by": _TEXT}, can_be_missing=True
        ),
        tags=["quarantine"],
    )
    async def resubmit(jobId: Name, request: Request) -> Response:
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
        responses=changes(404, 409, 413),
        openapi_extra=takes({"etag": _TEXT, "by": _TEXT}, can_be_missing=True),
        tags=["quarantine"],
    )
    async def discard(jobId: Name, request: Request) -> Response:
        """Throw a job away for good."""
        body = await read_body(request, DiscardBody)
        return json_response(job_view((await quarantine.DiscardJob(pb.DiscardJobRequest(job_id=jobId, etag=body.etag, actor=body.by))).job))


def add_requeue(app: FastAPI, quarantine: QuarantineServiceAsyncStub) -> None:
    """Add the route for lost jobs."""

    @app.post(
        "/jobs:requeue",
        operation_id="RequeueJobs",
        response_model=schemas.RequeueResultBody,
        responses=changes(404, 413),
        openapi_extra=takes(_REQUEUE_FIELDS, can_be_missing=True),
        tags=["quarantine"],
    )
    async def requeue(request: Request) -> Response:
        """Bring back unfinished jobs that no queue holds, because one was purged; `validateOnly` only says what would be done."""
        body = await read_body(request, RequeueBody)
        asked = pb.RequeueJobsRequest(
            job_ids=body.job_ids,
            job_type=body.job_type,
            tenant=body.tenant,
            min_age=None if isinstance(body.min_age_seconds, msgspec.UnsetType) else Duration(seconds=body.min_age_seconds),
            even_if_waiting=body.even_if_waiting,
            discard_without_payload=body.discard_without_payload,
            validate_only=body.validate_only,
            actor=body.by,
            page_size=body.page_size,
            page_token=body.page_token,
        )
        reply = await quarantine.RequeueJobs(asked)
        return json_response({"jobs": list(map(requeued_view, reply.jobs)), **_more(reply.next_page_token)})


def _more(token: str) -> Mapping[str, str]:
    return {"nextPageToken": token} if token else {}
