"""The FastAPI factory of the gateways: documentation that works offline, one error format, JSON by msgspec.

    app = create_app("Sickbay Job API", "Submit jobs.", VERSION)
    Gateway(app).add(pb.DESCRIPTOR.services_by_name["JobService"], stub)      # transcoding/gateway.py: a route for each RPC

Other routes are ordinary ones:

    @app.get("/health")
    async def get_health() -> Response:
        return json_response({"status": "ok"})

Routes just raise: `errors.py` converts AioRpcError and SickbayError to responses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fastapi import Depends, FastAPI
from starlette.responses import Response

from sickbay.server.access.rest import AccessGuard
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
"""Paths that machines poll have no spans."""


def create_app(title: str, description: str, version: str, tracing: Tracing | None = None) -> FastAPI:
    """An application with only `/docs` and `/openapi.json`; its pages load nothing from other hosts.

    With `tracing` every request has a span, in the trace of its headers.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        docs_url=None,  # ours works offline
        redoc_url=None,  # its script loads a logo from another host
        redirect_slashes=False,  # a 307 to a guessed path does not help API clients
        separate_input_output_schemas=False,
        telemetry=_telemetry(tracing),
        dependencies=[Depends(check_parameters)],
    )
    app.add_middleware(AccessGuard)
    app.add_middleware(Guard)  # the outer one
    add_docs(app)
    setattr(app.state, _CLOSING, asyncio.Event())
    http_errors.install_handlers(app)
    return app


def closing(app: Any) -> asyncio.Event:
    """Set when the application is about to stop, so that streams end."""
    event: asyncio.Event = getattr(app.state, _CLOSING)
    return event


def json_response(view: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A view as a response."""
    return Response(encode(view), status, headers, media_type="application/json")


def _telemetry(tracing: Tracing | None) -> TelemetryConfig:
    """Only FastAPI's own spans: anything else would go to providers that handlers may have set."""
    return {
        "tracing": tracing is not None,
        "tracer_provider": tracing.provider if tracing else None,
        "operation_spans": False,
        "metrics": False,
        "logs": False,  # they would contain the messages of exceptions
        "auto_configure": False,
        "exclude": lambda scope: scope["path"] in _QUIET,
    }
