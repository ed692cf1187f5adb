"""The worker's HTTP door: health only."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response

from sickbay.rpc import schemas
from sickbay.rpc.health import Health
from sickbay.rpc.rest import create_app, health_response


def create_gateway(health: Health, version: str) -> FastAPI:
    """The application."""
    app = create_app("Sickbay Worker", "Runs jobs; there is nothing to ask it but whether it is well.", version)

    @app.get(
        "/health", operation_id="Health", response_model=schemas.HealthBody, responses={503: {"model": schemas.HealthBody}}, tags=["health"]
    )
    async def get_health() -> Response:
        """Whether this worker takes jobs. An open circuit is not a reason to be down."""
        return health_response(serving=health.serving)

    return app
