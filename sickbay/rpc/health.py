"""Whether a service takes requests: one answer for the gRPC health service and for GET /health."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response

from sickbay.rpc.rest import health_response
from sickbay.rpc.schemas import HealthBody


class Health:
    """Set once by whoever runs the service; read by its doors."""

    def __init__(self, *, serving: bool = True) -> None:
        """Begin with this answer."""
        self.serving = serving


def add_health(app: FastAPI, health: Health) -> None:
    """Add `GET /health`."""

    @app.get("/health", operation_id="Health", response_model=HealthBody, responses={503: {"model": HealthBody}}, tags=["health"])
    async def get_health() -> Response:
        """Whether this service takes requests. An open circuit is not a reason to be down."""
        return health_response(serving=health.serving)
