"""`python -m worker`: a worker as a process of its own; run as many as you like."""

from __future__ import annotations

import logging
import time

from sickbay.concurrency.tasks import background
from sickbay.domain.program import WorkStream
from sickbay.domain.service_ports import WORKER
from sickbay.runtime.access import open_access
from sickbay.runtime.backends import open_worker
from sickbay.runtime.http_handlers import has_http_handlers
from sickbay.runtime.observers import load_observers
from sickbay.runtime.process import Signals, address, open_redaction, start
from sickbay.runtime.settings import Settings
from sickbay.runtime.tls import open_tls
from sickbay.telemetry.tracing import open_traces
from worker.app import report, serve
from worker.choice import load_chosen, warn_if_demo

log = logging.getLogger("sickbay")


async def run(settings: Settings, *, reload: bool = False) -> bool:
    """Work until a signal, then drain; returns whether a handler is still running that cannot be stopped.

    `reload`: load the handlers anew whenever their source changes.
    """
    since = time.time()
    has_others = has_http_handlers(settings) or settings.work_stream is not WorkStream.OFF
    handlers = load_chosen(settings.job_handlers, has_others=has_others)
    redact = open_redaction(settings)
    observers = load_observers(settings.observers)
    signals = Signals()
    async with (
        open_traces(settings.traces_endpoint, settings.worker_name, redact) as traces,
        open_access(settings) as access,
        open_tls(settings) as tls,
        open_worker(settings) as backends,
        serve(backends, settings, handlers, address(settings, WORKER, access, tls), traces, redact=redact, observers=observers) as worker,
    ):
        report(worker.handlers, settings.concurrency, settings.pool)
        warn_if_demo(settings.job_handlers)
        async with background(*([worker.reload(settings.job_handlers, since).run] if reload else [])):
            await signals.serve(backends.ready(), worker.endpoints)
        log.info("stopping: running jobs may finish (%g s at most, a second signal cancels them)", worker.grace_s)
        await signals.drain_with_grace(worker.drain, worker.grace_s)
    return worker.is_stuck


if __name__ == "__main__":
    start(run)
