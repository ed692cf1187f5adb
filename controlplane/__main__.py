"""`python -m controlplane`: the control plane as a process of its own."""

from __future__ import annotations

from controlplane.app import serve
from sickbay.domain.service_ports import CONTROL_PLANE
from sickbay.runtime.access import open_access
from sickbay.runtime.backends import open_control_plane
from sickbay.runtime.observers import load_observers
from sickbay.runtime.process import Signals, address, start
from sickbay.runtime.settings import Settings
from sickbay.runtime.tls import open_tls
from sickbay.telemetry.tracing import open_traces


async def run(settings: Settings) -> bool:
    """Write the ledger, heal and serve until a signal; no thread is ever left behind."""
    observers = load_observers(settings.observers)
    signals = Signals()
    async with (
        open_traces(settings.traces_endpoint, settings.worker_name) as traces,
        open_access(settings) as access,
        open_tls(settings) as tls,
        open_control_plane(settings) as backends,
        serve(backends, address(settings, CONTROL_PLANE, access, tls), traces, observers=observers) as endpoints,
    ):
        await signals.serve(backends.ready(), endpoints)
    return False


if __name__ == "__main__":
    start(run)
