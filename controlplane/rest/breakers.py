"""The REST routes of BreakerService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from google.protobuf.duration_pb2 import Duration

from sickbay.breakers.v1 import breaker_service_pb2 as breakers_pb
from sickbay.contract.paging import MAX_PAGE_SIZE
from sickbay.server.rest import schemas
from sickbay.server.rest.accept import JSON, prefers
from sickbay.server.rest.app import json_response
from sickbay.server.rest.body import Body, read_body
from sickbay.server.rest.guard import Name
from sickbay.server.rest.openapi import changes, fails, streams, takes
from sickbay.server.rest.sse import STREAM, LastEventId, event_stream, relay
from sickbay.server.rest.views import breaker_view, breakers_view, reset_view

_TEXT: Mapping[str, Any] = {"type": "string"}
_EVENTS = streams("Events `breaker`: every circuit as it is now, then each change; the circuit `events` if `Accept` names JSON.")
_EVENTS[200]["model"] = schemas.BreakerBody
_WHO: Mapping[str, Any] = {"by": _TEXT, "why": _TEXT}

if TYPE_CHECKING:  # stubs for asyncio exist for type checkers only
    from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceAsyncStub


class HoldBody(Body, frozen=True):
    """Who changes a circuit, and why; `seconds` bounds a hold."""

    by: str = ""
    why: str = ""
    seconds: float | None = None


class WhoBody(Body, frozen=True):
    """Who changes a circuit, and why."""

    by: str = ""
    why: str = ""


def add_breakers(app: FastAPI, breakers: BreakerServiceAsyncStub) -> None:
    """Add the routes; every operation id is the name of its RPC."""

    @app.get("/breakers", operation_id="ListBreakers", response_model=schemas.BreakersBody, responses=fails(400), tags=["breakers"])
    async def list_breakers(tenant: str = "", pageSize: Annotated[int, Query(ge=0, le=MAX_PAGE_SIZE)] = 0, pageToken: str = "") -> Response:
        """Circuits by job type: 1,000 in one answer, or `pageSize`; if there are more, `nextPageToken` leads to them."""
        asked = breakers_pb.ListBreakersRequest(tenant=tenant, page_size=pageSize or MAX_PAGE_SIZE, page_token=pageToken)
        reply = await breakers.ListBreakers(asked)
        return json_response(breakers_view(list(map(breaker_view, reply.breakers)), reply.next_page_token))

    @app.get(
        "/breakers/events",
        operation_id="WatchBreakers",
        response_class=Response,
        responses=_EVENTS | fails(400, 404),
        tags=["breakers"],
    )
    async def watch_breakers(request: Request, jobType: str = "", tenant: str = "", last_event_id: LastEventId = "") -> Response:
        """Server-sent events: every circuit as it is now, then each change; with `Last-Event-ID` only changes, if none was missed.

        If `Accept` names JSON, it is the circuit of the job type `events`, whose path this is, too.
        """
        if prefers(request.headers.get("accept", ""), JSON, STREAM):
            return await get_breaker("events", tenant)
        call = breakers.WatchBreakers(breakers_pb.WatchBreakersRequest(job_type=jobType, tenant=tenant, resume_token=last_event_id))
        return await event_stream(request, relay(call, lambda reply: ("breaker", breaker_view(reply.breaker), reply.resume_token)))

    @app.get(
        "/breakers/{jobType}", operation_id="GetBreaker", response_model=schemas.BreakerBody, responses=fails(400, 404), tags=["breakers"]
    )
    async def get_breaker(jobType: Name, tenant: str = "") -> Response:
        """One circuit."""
        return json_response(
            breaker_view((await breakers.GetBreaker(breakers_pb.GetBreakerRequest(job_type=jobType, tenant=tenant))).breaker)
        )

    @app.post(
        "/breakers/{jobType}/reset",
        operation_id="ResetBreaker",
        response_model=schemas.ResetBody,
        responses=changes(404),
        tags=["breakers"],
    )
    async def reset(jobType: Name, tenant: str = "") -> Response:
        """Close a circuit at once."""
        await breakers.ResetBreaker(breakers_pb.ResetBreakerRequest(job_type=jobType, tenant=tenant))
        return json_response(reset_view(jobType))

    @app.post(
        "/breakers/{jobType}/force-open",
        operation_id="ForceOpenBreaker",
        response_model=schemas.BreakerBody,
        responses=changes(413),
        openapi_extra=takes({**_WHO, "seconds": {"type": ["number", "null"], "minimum": 0.001}}, can_be_missing=True),
        tags=["breakers"],
    )
    async def force_open(jobType: Name, request: Request, tenant: str = "") -> Response:
        """Hold a circuit open, for `seconds` or until it is set to auto or reset."""
        body = await read_body(request, HoldBody)
        asked = breakers_pb.ForceOpenBreakerRequest(job_type=jobType, tenant=tenant, actor=body.by, why=body.why)
        if body.seconds is not None:
            asked.duration.CopyFrom(_span(body.seconds))
        return json_response(breaker_view((await breakers.ForceOpenBreaker(asked)).breaker))

    @app.post(
        "/breakers/{jobType}/disable",
        operation_id="DisableBreaker",
        response_model=schemas.BreakerBody,
        responses=changes(413),
        openapi_extra=takes({**_WHO}, can_be_missing=True),
        tags=["breakers"],
    )
    async def disable(jobType: Name, request: Request, tenant: str = "") -> Response:
        """Switch a circuit off: every job of its type runs."""
        body = await read_body(request, WhoBody)
        asked = breakers_pb.DisableBreakerRequest(job_type=jobType, tenant=tenant, actor=body.by, why=body.why)
        return json_response(breaker_view((await breakers.DisableBreaker(asked)).breaker))

    @app.post(
        "/breakers/{jobType}/metrics-only",
        operation_id="SetBreakerMetricsOnly",
        response_model=schemas.BreakerBody,
        responses=changes(413),
        openapi_extra=takes({**_WHO}, can_be_missing=True),
        tags=["breakers"],
    )
    async def metrics_only(jobType: Name, request: Request, tenant: str = "") -> Response:
        """Let a circuit watch only."""
        body = await read_body(request, WhoBody)
        asked = breakers_pb.SetBreakerMetricsOnlyRequest(job_type=jobType, tenant=tenant, actor=body.by, why=body.why)
        return json_response(breaker_view((await breakers.SetBreakerMetricsOnly(asked)).breaker))

    @app.post(
        "/breakers/{jobType}/auto",
        operation_id="SetBreakerAuto",
        response_model=schemas.BreakerBody,
        responses=changes(404),
        tags=["breakers"],
    )
    async def auto(jobType: Name, tenant: str = "") -> Response:
        """Let a circuit decide again."""
        asked = breakers_pb.SetBreakerAutoRequest(job_type=jobType, tenant=tenant)
        return json_response(breaker_view((await breakers.SetBreakerAuto(asked)).breaker))


def _span(seconds: float) -> Duration:
    span = Duration()
    span.FromMilliseconds(round(min(max(seconds, -1e9), 1e9) * 1000))
    return span
