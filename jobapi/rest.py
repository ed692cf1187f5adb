"""The REST gateway of the Job API: JSON in, the generated stub over the in-process channel, JSON out."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from sickbay.concurrency.tasks import in_turns
from sickbay.contract.requests import MAX_BATCH
from sickbay.domain.errors import InvalidArgument, SickbayError
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_pb2 import Job, JobView
from sickbay.server.enums import STATE_NAMES, number
from sickbay.server.errors import Fault, batch_fault, fault_of
from sickbay.server.health import Health, add_health
from sickbay.server.rest import schemas
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.rest.body import Body, decode, read_body, text
from sickbay.server.rest.errors import error_view, fault_response, http_status
from sickbay.server.rest.guard import Name
from sickbay.server.rest.openapi import ENDED, JOB_FIELDS, changes, fails, streams, takes
from sickbay.server.rest.scrape import add_scrape
from sickbay.server.rest.sse import Event, LastEventId, event_stream, relay
from sickbay.server.rest.views import View, accepted_view, change_view, job_view
from sickbay.telemetry.metrics import MetricsRegistry

MAX_BATCH_BYTES = 16 * 1024 * 1024
EXAMPLE = {"jobType": "email", "payload": {"to": "user@example.com", "subject": "Hello", "body": "Test email"}}

_KEY = {"type": "string", "minLength": 1, "maxLength": 128}

if TYPE_CHECKING:  # stubs for asyncio exist for type checkers only
    from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from sickbay.telemetry.spans import Tracing


class SubmitBody(Body, frozen=True):
    """One job."""

    job_type: str = ""
    payload: msgspec.Raw = msgspec.Raw()
    tenant: str = ""


class BatchItem(SubmitBody, frozen=True):
    """One job of a batch."""

    idempotency_key: str | msgspec.UnsetType = msgspec.UNSET


class BatchBody(Body, frozen=True):
    """Several jobs; each is read by itself, so that a bad one does not harm the others."""

    jobs: list[msgspec.Raw]


class ListQuery(BaseModel):
    """The parameters of `GET /jobs`."""

    model_config = ConfigDict(extra="forbid")

    jobType: str = ""
    tenant: str = ""
    state: list[str] = Field(default=[], json_schema_extra={"items": {"enum": list(STATE_NAMES)}})
    pageSize: int = Field(default=0, ge=0, le=1000)
    pageToken: str = ""
    history: bool = False


def create_gateway(
    jobs: JobServiceAsyncStub, health: Health, told: MetricsRegistry, version: str, *, tracing: Tracing | None = None
) -> FastAPI:
    """The application; every route's operation id is the name of its RPC."""
    app = create_app("Sickbay Job API", "Takes jobs in and tells what became of them.", version, tracing)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    add_health(app, health)
    add_scrape(app, told)

    @app.post(
        "/jobs",
        operation_id="SubmitJob",
        status_code=202,
        response_model=schemas.AcceptedBody,
        responses=changes(409, 413, 422),
        openapi_extra=takes(JOB_FIELDS, required=("jobType", "payload"), example=EXAMPLE),
        tags=["jobs"],
    )
    async def submit(request: Request, idempotency_key: Annotated[str, Header(min_length=1, max_length=128)] = "") -> Response:
        """Accept one job; the answer is sent after the job is durable. A repeat with the same `Idempotency-Key` gets the first answer."""
        if len(request.headers.getlist("idempotency-key")) > 1:
            raise InvalidArgument("the header Idempotency-Key comes twice; send it once")
        body = await read_body(request, SubmitBody)
        reply = await jobs.SubmitJob(_request(body, idempotency_key))
        view = accepted_view(reply.job.job_type, reply.job.job_id, duplicate=reply.duplicate)
        return json_response(view, 202, {"location": f"/jobs/{reply.job.job_id}"})

    @app.post(
        "/jobs:batch",
        operation_id="BatchSubmitJobs",
        status_code=202,
        response_model=schemas.BatchBody,
        responses=changes(409, 413, 422),
        openapi_extra=takes(
            {
                "jobs": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1000,
                    "items": {"type": "object", "properties": JOB_FIELDS | {"idempotencyKey": _KEY}},
                }
            },
            required=("jobs",),
            example={"jobs": [EXAMPLE]},
        ),
        tags=["jobs"],
    )
    async def submit_batch(request: Request) -> Response:
        """Accept up to 1,000 jobs, each judged by itself. If none is accepted, the answer is the first one's error."""
        body = await read_body(request, BatchBody, MAX_BATCH_BYTES)
        if len(body.jobs) > MAX_BATCH:
            raise InvalidArgument(f"a batch holds 1 to {MAX_BATCH:,} jobs, not {len(body.jobs):,}; split it")
        read = [_read_item(raw) async for raw in in_turns(body.jobs)]
        requests = [item for item in read if not isinstance(item, Fault)]
        reply = (
            await jobs.BatchSubmitJobs(pb.BatchSubmitJobsRequest(requests=requests))
            if requests or not read
            else pb.BatchSubmitJobsResponse()
        )
        answered = iter(reply.results)
        results = [item if isinstance(item, Fault) else _fault_or_result(next(answered)) async for item in in_turns(read)]
        faults = [result for result in results if isinstance(result, Fault)]
        if len(faults) == len(results):
            return fault_response(faults[0])
        views = [_item_view(result) async for result in in_turns(results)]
        return json_response({"accepted": len(results) - len(faults), "refused": len(faults), "results": views}, 202)

    @app.get("/jobs", operation_id="ListJobs", response_model=schemas.JobsBody, responses=fails(400), tags=["jobs"])
    async def list_jobs(query: Annotated[ListQuery, Query()]) -> Response:
        """Jobs, newest first; `state` may be given several times."""
        reply = await jobs.ListJobs(
            pb.ListJobsRequest(
                job_type=query.jobType,
                tenant=query.tenant,
                states=[number(Job.State, "STATE", name) for name in query.state],
                page_size=query.pageSize,
                page_token=query.pageToken,
                view=JobView.JOB_VIEW_FULL if query.history else JobView.JOB_VIEW_BASIC,
            )
        )
        more = {"nextPageToken": reply.next_page_token} if reply.next_page_token else {}
        return json_response({"jobs": list(map(job_view, reply.jobs)), **more})

    @app.get("/jobs/{jobId}", operation_id="GetJob", response_model=schemas.JobBody, responses=fails(400, 404), tags=["jobs"])
    async def get_job(jobId: Name) -> Response:
        """One job with its history."""
        return json_response(job_view((await jobs.GetJob(pb.GetJobRequest(job_id=jobId))).job))

    @app.get(
        "/jobs/{jobId}/events",
        operation_id="WatchJob",
        response_class=Response,
        responses=streams("Events `job`: the job as it is now, then after every change, until it has ended.") | ENDED | fails(400, 404),
        tags=["jobs"],
    )
    async def watch_job(jobId: Name, request: Request, last_event_id: LastEventId = "") -> Response:
        """Server-sent events: the job as it is now, then every state change until it has ended. With `Last-Event-ID` those after it."""
        return await event_stream(request, relay(jobs.WatchJob(pb.WatchJobRequest(job_id=jobId, resume_token=last_event_id)), _event))

    @app.post("/jobs/{jobId}/cancel", operation_id="CancelJob", response_model=schemas.JobBody, responses=changes(404, 409), tags=["jobs"])
    async def cancel_job(jobId: Name) -> Response:
        """Call off a job that waits."""
        return json_response(job_view((await jobs.CancelJob(pb.CancelJobRequest(job_id=jobId))).job))

    return app


def _request(body: SubmitBody, key: str) -> pb.SubmitJobRequest:
    payload = text(body.payload)
    content: dict[str, Any] = {"payload_json": payload} if payload else {}
    return pb.SubmitJobRequest(job_type=body.job_type, tenant=body.tenant, request_id=key, **content)


def _given(key: str | msgspec.UnsetType) -> str:
    """An item's key; whoever sends an empty one believes to be safe against repeats, and is not."""
    if key == "":
        raise InvalidArgument("idempotencyKey is empty; send a key, for example a UUID, or leave it out")
    return "" if isinstance(key, msgspec.UnsetType) else key


def _read_item(raw: msgspec.Raw) -> pb.SubmitJobRequest | Fault:
    try:
        item = decode(bytes(raw), BatchItem)
        return _request(item, _given(item.idempotency_key))
    except SickbayError as error:
        return fault_of(error)


def _fault_or_result(result: pb.BatchSubmitResult) -> pb.BatchSubmitResult | Fault:
    return batch_fault(result.error) if result.HasField("error") else result


def _item_view(result: pb.BatchSubmitResult | Fault) -> View:
    if isinstance(result, Fault):
        return {"error": error_view(http_status(result), result.message, result.reason or HTTPStatus(http_status(result)).name)}
    return {"jobId": result.job_id, "duplicate": True} if result.duplicate else {"jobId": result.job_id}


def _event(reply: pb.WatchJobResponse) -> Event:
    change = {"change": change_view(reply.change)} if reply.HasField("change") else {}
    return "job", job_view(reply.job) | change, reply.resume_token
