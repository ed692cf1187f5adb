"""The FastAPI factory of the gateways: documentation without internet, one form of errors, JSON by msgspec.

    app = create_app("Sickbay Job API", "Takes jobs in", VERSION)
    Gateway(app).add(pb.DESCRIPTOR.services_by_name["JobService"], stub)      # transcoding/gateway.py: a route for each RPC

What is no RPC is an ordinary route:

    @app.get("/health")
    async def get_health() -> Response:
        return json_response({"status": "ok"})

Routes raise: AioRpcError and SickbayError are answered by the table in `errors.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fastapi import Depends, FastAPI
from starlette.responses import Response

from sickbay.server.rest import errors as http_errors
from sickbay.server.rest.docs import add_docs
from sickbay.server.rest.guard import Guard
from sickbay.server.rest.parameters import check_parameters
from sickbay.server.rest.views import encode

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

    from sickbay.telemetry.spans import Tracing

_CLOSING: Final = "closing"
_QUIET: Final = {"/health", "/health/ready", "/health/live", "/metrics"}
"""What is asked all day by machines makes no spans."""


def create_app(title: str, description: str, version: str, tracing: Tracing | None = None) -> FastAPI:
    """An application without routes but `/docs` and `/openapi.json`; no page of it refers to another host.

    With `tracing` every request is a span, in the trace that its headers name.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        docs_url=None,  # ours needs no internet
        redoc_url=None,  # its script loads a logo from its maker
        redirect_slashes=False,  # a 307 to a guess helps no client of an API
        separate_input_output_schemas=False,
        telemetry=_telemetry(tracing),
        dependencies=[Depends(check_parameters)],
    )
    app.add_middleware(Guard)
    add_docs(app)
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
