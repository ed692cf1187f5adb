"""The worker's HTTP door: health only."""

from __future__ import annotations

from fastapi import FastAPI

from sickbay.rpc.health import Health, add_health
from sickbay.rpc.rest import create_app


def create_gateway(health: Health, version: str) -> FastAPI:
    """The application."""
    app = create_app("Sickbay Worker", "Runs jobs; there is nothing to ask it but whether it is well.", version)

    add_health(app, health)

    return app
