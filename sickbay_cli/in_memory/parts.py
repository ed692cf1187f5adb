"""Opens the product as `sickbay up --ephemeral` does, but with the test's settings and clock, and on free ports of this machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import controlplane.app
import jobapi.app
import worker.app
from controlplane.code_schedules import CodeScheduleReconciler
from sickbay.fleet import FleetView
from sickbay.handlers.registry import HandlerSpec
from sickbay.runtime.backends import open_up
from sickbay.runtime.parts import Backends
from sickbay.runtime.settings import Settings, describe_settings
from sickbay.server.endpoints import Address
from sickbay_cli.in_memory.clock import MovableClock

_HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Started:
    """The running product: its parts, and the gRPC ports of Job API and control plane."""

    backends: Backends
    jobapi: str
    control_plane: str


def read_settings(values: Mapping[str, object]) -> Settings:
    """The settings of a test: only these variables, none of the environment. SettingsError if one is invalid or unknown."""
    with _environment({name.upper(): str(value) for name, value in values.items()}):
        return Settings.read()


@asynccontextmanager
async def start(settings: Settings, handlers: Mapping[str, HandlerSpec], clock: MovableClock) -> AsyncIterator[Started]:
    """Run all three services until the context ends."""
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(open_up(settings, None, clock=clock.wall, steady=clock.steady))
        plane = await stack.enter_async_context(controlplane.app.serve(backends, Address(_HERE, 0, 0)))
        working = await stack.enter_async_context(worker.app.serve(backends, settings, handlers, Address(_HERE, 0, 0)))
        api = await stack.enter_async_context(jobapi.app.serve(backends, Address(_HERE, 0, 0)))
        await backends.ready()
        for endpoints in (plane, working.endpoints, api):
            await endpoints.serving()
        # Now, and not after a moment: what the test does next may be to move the clock to the time of a schedule.
        await CodeScheduleReconciler(backends.schedules, backends.code_schedules, FleetView(backends.workers, backends.broker)).look()
        yield Started(backends, f"{_HERE}:{api.grpc_port}", f"{_HERE}:{plane.grpc_port}")
        await api.not_serving()
        await plane.not_serving()
        await working.drain(0)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Of the product's variables only these are set."""
    known = describe_settings()
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"there is no setting {unknown[0]}; docs/configuration.md lists all")
    before = {name: os.environ.pop(name) for name in [*os.environ] if name.upper() in known}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)
