"""`GET /metrics`, for Prometheus; the control plane's answers people first."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response

from sickbay.telemetry.metrics import Exposition

TEXTS: Final = ("application/openmetrics-text", "text/plain")
_TEXT: Final[dict[str, Any]] = {"schema": {"type": "string"}}
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {200: {"content": dict.fromkeys(TEXTS, _TEXT)}}


def add_scrape(app: FastAPI, exposition: Exposition) -> None:
    """Add `GET /metrics`."""

    @app.get("/metrics", operation_id="Scrape", response_class=Response, responses=DOCUMENTED, tags=["metrics"])
    async def scrape(request: Request) -> Response:
        """This service in numbers, as Prometheus text, or OpenMetrics if `Accept` names it."""
        return await scraped(exposition, request)


async def scraped(exposition: Exposition, request: Request) -> Response:
    """The answer to a scrape."""
    body, content_type = await exposition.text(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


def wants_text(accept: str) -> bool:
    """Whether an `Accept` header (RFC 9110, section 12.5.1) asks for Prometheus's text by its name, rather than for JSON."""
    wishes = dict(_wish(part) for part in accept.split(",") if part.strip())
    text = max((wishes.get(kind, 0.0) for kind in TEXTS), default=0.0)
    return text > max(wishes.get(kind, 0.0) for kind in ("application/json", "application/*"))


def _wish(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip() for word in part.split(";"))
    quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
    try:
        return kind.lower(), float(quality)
    except ValueError:
        return kind.lower(), 0.0
