"""The REST gateway of the control plane: circuits, quarantine and metrics for people and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from controlplane.rest.breakers import add_breakers
from controlplane.rest.quarantine import add_quarantine, add_requeue
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsRequest
from sickbay.server.health import Health, add_health
from sickbay.server.rest import schemas
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.rest.openapi import fails
from sickbay.server.rest.scrape import DOCUMENTED, scraped, wants_text
from sickbay.server.rest.views import metrics_view
from sickbay.telemetry.metrics import MetricsRegistry

if TYPE_CHECKING:  # stubs for asyncio exist for type checkers only
    from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceAsyncStub
    from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceAsyncStub
    from sickbay.telemetry.spans import Tracing


def create_gateway(
    breakers: BreakerServiceAsyncStub,
    quarantine: QuarantineServiceAsyncStub,
    health: Health,
    told: MetricsRegistry,
    version: str,
    *,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The application; every route's operation id is the name of its RPC."""
    app = create_app("Sickbay Control Plane", "Shows and commands circuits, and looks after jobs in quarantine.", version, tracing)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    add_health(app, health)

    @app.get(
        "/metrics", operation_id="GetMetrics", response_model=schemas.MetricsBody, responses={**fails(), **DOCUMENTED}, tags=["metrics"]
    )
    async def metrics(request: Request) -> Response:
        """The system in numbers; as Prometheus text or OpenMetrics, with more of them, if `Accept` names it."""
        if wants_text(request.headers.get("accept", "")):
            return await scraped(told, request)
        return json_response(metrics_view(await breakers.GetMetrics(GetMetricsRequest())))

    add_breakers(app, breakers)
    add_quarantine(app, quarantine)
    add_requeue(app, quarantine)
    return app
