"""The FastAPI factory of the gateways: documentation without internet, one form of errors, JSON by msgspec.

    app = create_app("Sickbay Job API", "Takes jobs in")

    @app.post("/jobs", status_code=202)
    async def submit(request: Request) -> Response:
        body = await read_body(request, SubmitBody)                  # body.py
        reply = await jobs.SubmitJob(SubmitJobRequest(...))          # channel.py; its errors become answers by themselves
        return json_response(job_view(reply.job), 202)               # views.py

Handlers raise: AioRpcError and SickbayError are answered by the table in `http_errors.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import Response

from sickbay.rpc import http_errors
from sickbay.rpc.views import encode, health_view

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

    from sickbay.telemetry.spans import Tracing

_CLOSING: Final = "closing"
_QUIET: Final = {"/health", "/metrics"}
"""What is asked all day by machines makes no spans."""


def create_app(title: str, description: str, version: str, tracing: Tracing | None = None) -> FastAPI:
    """An application without routes but `/docs` and `/openapi.json`; no page of it refers to another host.

    With `tracing` every request is a span, in the trace that its headers name.
    """
    app: FastAPI = FastAPIOffline(
        title=title,
        description=description,
        version=version,
        redoc_url=None,  # its script loads a logo from its maker
        swagger_ui_parameters={"validatorUrl": None},  # or the page sends our specification to a validator on the web
        redirect_slashes=False,  # a 307 to a guess helps no client of an API
        separate_input_output_schemas=False,
        telemetry=_telemetry(tracing),
    )
    setattr(app.state, _CLOSING, asyncio.Event())
    http_errors.install(app)
    return app


def closing(app: Any) -> asyncio.Event:
    """Set when the application is about to stop: streams end then."""
    event: asyncio.Event = getattr(app.state, _CLOSING)
    return event


def json_response(view: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A view as an answer."""
    return Response(encode(view), status, headers, media_type="application/json")


def health_response(*, serving: bool) -> Response:
    """The documented answer of GET /health; 503 while not serving."""
    return json_response(health_view(serving=serving), 200 if serving else 503)


def _telemetry(tracing: Tracing | None) -> TelemetryConfig:
    """FastAPI's own spans, and nothing else of what it would tell to providers that handlers may have set for themselves."""
    return {
        "tracing": tracing is not None,
        "tracer_provider": tracing.provider if tracing else None,
        "operation_spans": False,
        "metrics": False,
        "logs": False,  # they would hold the messages of exceptions
        "auto_configure": False,
        "exclude": lambda scope: scope["path"] in _QUIET,
    }
