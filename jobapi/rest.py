"""The REST gateway of the Job API: the routes of its services, generated from their contracts, and a handler for batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from sickbay.concurrency.slices import Slices
from sickbay.contract.faults import Fault, batch_fault
from sickbay.contract.requests import MAX_BATCH
from sickbay.domain.errors import InvalidArgument, SickbayError
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1 import job_type_service_pb2 as types_pb
from sickbay.server.errors import fault_of
from sickbay.server.health import Health, add_health
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.rest.body import Body, read_body
from sickbay.server.rest.errors import fault_response, item_error_view
from sickbay.server.rest.openapi import ENDED
from sickbay.server.rest.scrape import add_scrape
from sickbay.server.rest.transcoding.bodies import reader_of
from sickbay.server.rest.transcoding.gateway import Gateway, RouteOptions
from sickbay.server.rest.views import SHAPES, View, batch_result_view
from sickbay.telemetry.metrics import MetricsRegistry

MAX_BATCH_BYTES = 16 * 1024 * 1024
EXAMPLE = {"jobType": "email", "payload": {"to": "user@example.com", "subject": "Hello", "body": "Test email"}}

if TYPE_CHECKING:  # stubs for asyncio exist for type checkers only
    from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from sickbay.jobs.v1.job_type_service_pb2_grpc import JobTypeServiceAsyncStub
    from sickbay.telemetry.spans import Tracing


class BatchRequestBody(Body, frozen=True):
    """Several jobs; each is decoded separately, so that an invalid one does not affect the others."""

    jobs: list[msgspec.Raw]


_ITEM: Final = reader_of(pb.SubmitJobRequest.DESCRIPTOR, SHAPES)


def create_gateway(
    jobs: JobServiceAsyncStub,
    health: Health,
    metrics: MetricsRegistry,
    version: str,
    *,
    types: JobTypeServiceAsyncStub,
    slices: Slices | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The application; every route's operation id is the name of its RPC. `slices` says when work on a batch goes on."""
    slices = slices or Slices()
    app = create_app("Sickbay Job API", "Submit jobs, follow them, cancel them, and read what job types there are.", version, tracing)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    async def submit_batch(request: Request) -> Response:
        return await _submit_batch(jobs, request, slices)

    add_health(app, health)
    add_scrape(app, metrics)
    options = {
        "SubmitJob": RouteOptions(status=202, headers=_location, example=EXAMPLE),
        "BatchSubmitJobs": RouteOptions(status=202, handle=submit_batch, example={"jobs": [EXAMPLE]}),
        "WatchJob": RouteOptions(responses=ENDED),
    }
    gateway = Gateway(app)
    gateway.add(pb.DESCRIPTOR.services_by_name["JobService"], jobs, options)
    gateway.add(types_pb.DESCRIPTOR.services_by_name["JobTypeService"], types)
    return app


def _location(reply: pb.SubmitJobResponse) -> Mapping[str, str]:
    return {"location": f"/jobs/{reply.job.job_id}"}


async def _submit_batch(jobs: Any, request: Request, slices: Slices) -> Response:
    """Each job is validated separately. If none is accepted, the response is the first one's error."""
    body = await read_body(request, BatchRequestBody, MAX_BATCH_BYTES)
    if len(body.jobs) > MAX_BATCH:
        raise InvalidArgument(f"a batch holds 1 to {MAX_BATCH:,} jobs, not {len(body.jobs):,}; split it")
    read = [_read_item(raw) async for raw in slices.over(body.jobs)]
    requests = [item for item in read if not isinstance(item, Fault)]
    reply = (
        await jobs.BatchSubmitJobs(pb.BatchSubmitJobsRequest(requests=requests)) if requests or not read else pb.BatchSubmitJobsResponse()
    )
    answered = iter(reply.results)
    results = [item if isinstance(item, Fault) else _fault_or_result(next(answered)) async for item in slices.over(read)]
    faults = [result for result in results if isinstance(result, Fault)]
    if len(faults) == len(results):
        return fault_response(faults[0])
    views = [_item_view(result) async for result in slices.over(results)]
    return json_response({"accepted": len(results) - len(faults), "refused": len(faults), "results": views}, 202)


def _read_item(raw: msgspec.Raw) -> pb.SubmitJobRequest | Fault:
    try:
        return _ITEM.decode(bytes(raw))  # type: ignore[return-value]  # the message of its descriptor
    except SickbayError as error:
        return fault_of(error)


def _fault_or_result(result: pb.BatchSubmitResult) -> pb.BatchSubmitResult | Fault:
    return batch_fault(result.error) if result.HasField("error") else result


def _item_view(result: pb.BatchSubmitResult | Fault) -> View:
    return {"error": item_error_view(result)} if isinstance(result, Fault) else batch_result_view(result)
