"""`python -m jobapi`: the Job API as a process of its own."""

from __future__ import annotations

from jobapi.app import serve
from sickbay.domain.service_ports import JOB_API
from sickbay.runtime.access import open_access
from sickbay.runtime.backends import open_jobapi
from sickbay.runtime.observers import load_observers
from sickbay.runtime.process import Signals, address, start
from sickbay.runtime.settings import Settings
from sickbay.runtime.tls import open_tls
from sickbay.submission.names import NameLimits
from sickbay.telemetry.tracing import open_traces


async def run(settings: Settings) -> bool:
    """Serve until a signal; no thread is ever left behind."""
    observers = load_observers(settings.observers)
    signals = Signals()
    async with (
        open_traces(settings.traces_endpoint, settings.worker_name) as traces,
        open_access(settings) as access,
        open_tls(settings) as tls,
        open_jobapi(settings) as backends,
        serve(backends, address(settings, JOB_API, access, tls), traces, names=NameLimits.of(settings), observers=observers) as endpoints,
    ):
        await signals.serve(backends.ready(), endpoints)
    return False


if __name__ == "__main__":
    start(run)
