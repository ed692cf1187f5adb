"""`GET /metrics`, for Prometheus; that of the control plane returns JSON by default."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response

from sickbay.server.rest.accept import JSON, prefers
from sickbay.server.rest.openapi import MISDIRECTED
from sickbay.telemetry.metrics import MetricsRegistry

TEXTS: Final = ("application/openmetrics-text", "text/plain")
_TEXT: Final[dict[str, Any]] = {"schema": {"type": "string"}}
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {200: {"content": dict.fromkeys(TEXTS, _TEXT)}}


def add_scrape(app: FastAPI, metrics: MetricsRegistry) -> None:
    """Add `GET /metrics`."""

    @app.get("/metrics", operation_id="Scrape", response_class=Response, responses=DOCUMENTED | MISDIRECTED, tags=["metrics"])
    async def scrape(request: Request) -> Response:
        """Metrics of this service, as Prometheus text, or OpenMetrics if `Accept` names it."""
        return await scrape_response(metrics, request)


async def scrape_response(metrics: MetricsRegistry, request: Request) -> Response:
    """The response to a scrape."""
    body, content_type = await metrics.text(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


def wants_text(accept: str) -> bool:
    """Whether an `Accept` header prefers Prometheus text, by name, to JSON."""
    return prefers(accept, TEXTS, JSON)
