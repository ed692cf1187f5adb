"""The health of a service: `GET /health`, `/health/ready` and `/health/live`, and the details in gRPC health responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import Response

from sickbay.domain.health import Finding, Health, HealthState, Mark, Status
from sickbay.server.rest.app import json_response
from sickbay.server.rest.openapi import MISDIRECTED
from sickbay.server.rest.schemas import HealthBody
from sickbay.server.rest.views import encode, rfc3339
from sickbay.system.clock import wall_clock

__all__ = ["Health", "HealthWatch", "add_health", "details", "health_view"]

LOOK_EVERY_S: Final = 1.0
LIVE: Final = {"status": "ok", "info": {"api": {"status": "up"}}}

log = logging.getLogger("sickbay.domain.health")

_RESPONSES: dict[int | str, dict[str, Any]] = {503: {"model": HealthBody}, **MISDIRECTED}


def health_view(state: HealthState, *, up: bool) -> dict[str, Any]:
    """The documented fields (`up` corresponds to the HTTP status), and the checks of the parts."""
    checks = {finding.name: _check_view(finding) for finding in state.findings}
    return {"status": state.status, "info": {"api": {"status": "up" if up else "down"}}} | ({"checks": checks} if checks else {})


def details(state: HealthState) -> bytes:
    """The same for gRPC, as JSON."""
    return encode(health_view(state, up=state.serving))


def _check_view(finding: Finding) -> dict[str, Any]:
    since = {} if finding.since is None else {"since": rfc3339(finding.since)}
    reason = {"reason": finding.reason} if finding.reason else {}
    return {"status": finding.mark, "needed": finding.needed} | since | reason


def add_health(app: FastAPI, health: Health) -> None:
    """Add `GET /health`, `/health/ready` and `/health/live`; all answer from memory."""

    @app.get("/health", operation_id="Health", response_model=HealthBody, responses=_RESPONSES, tags=["health"])
    async def get_health() -> Response:
        """Whether this service works: 503 while a server that it needs is unavailable. An open breaker does not matter."""
        return _answer(health.state, up=health.state.serving)

    @app.get("/health/ready", operation_id="HealthReady", response_model=HealthBody, responses=_RESPONSES, tags=["health"])
    async def get_ready() -> Response:
        """Whether to send traffic here: 503 until all servers have answered once, and while this service is stopping."""
        return _answer(health.state, up=health.state.ready)

    @app.get("/health/live", operation_id="HealthLive", response_model=HealthBody, responses=dict(MISDIRECTED), tags=["health"])
    async def get_live() -> Response:
        """Whether this process answers: 200. Use this for restarts."""
        return json_response(LIVE)


def _answer(state: HealthState, *, up: bool) -> Response:
    return json_response(health_view(state, up=up), 200 if up else 503, {"cache-control": "no-store"})


class HealthWatch:
    """Checks the health of a service about once a second and reports changes: of the status to `show`, of each part to the log."""

    def __init__(self, health: Health, name: str, show: Callable[[HealthState], Awaitable[None]]) -> None:
        """`name` is the name of the service in the log."""
        self._health = health
        self._show = show
        self._last_shown: tuple[Status, bool] | None = None
        self._lock = asyncio.Lock()
        self._log = HealthLog(name)

    async def look(self) -> None:
        """Check now."""
        async with self._lock:  # or an older state may be shown last
            self._health.look(wall_clock())
            state = self._health.state
            self._log.log_changes(state)
            if (state.status, state.ready) != self._last_shown:
                self._last_shown = (state.status, state.ready)
                await self._show(state)

    async def run(self) -> None:
        """Check periodically until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("internal error in the health check of this service; retrying")
            await asyncio.sleep(LOOK_EVERY_S)


class HealthLog:
    """One log line for each part that goes down while the service runs, and for each that comes back."""

    def __init__(self, name: str) -> None:
        """Start with nothing down."""
        self._name = name
        self._down: dict[str, Finding] = {}

    def log_changes(self, state: HealthState) -> None:
        """Log what has changed, but not before the service is ready or while it is stopping."""
        if not state.ready:
            return
        down = {finding.name: finding for finding in state.findings if finding.mark is Mark.DOWN}
        for name in down.keys() - self._down.keys():
            since, reason = _why(down[name])
            log.warning("health of the %s is %s: %s is down since %s: %s", self._name, state.status, name, since, reason)
        for name in self._down.keys() - down.keys():
            since, reason = _why(self._down[name])
            log.info("health of the %s is %s: %s has recovered; it was down since %s: %s", self._name, state.status, name, since, reason)
        self._down = down


def _why(finding: Finding) -> tuple[str, str]:
    return (rfc3339(finding.since or 0), finding.reason)
