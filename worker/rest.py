"""The worker's HTTP endpoint: health and metrics."""

from __future__ import annotations

from fastapi import FastAPI

from sickbay.server.health import Health, add_health
from sickbay.server.rest.app import create_app
from sickbay.server.rest.scrape import add_scrape
from sickbay.telemetry.metrics import MetricsRegistry


def create_gateway(health: Health, metrics: MetricsRegistry, version: str) -> FastAPI:
    """The application."""
    app = create_app("Sickbay Worker", "Runs jobs; its API has only health and metrics.", version)

    add_health(app, health)
    add_scrape(app, metrics)
    return app
