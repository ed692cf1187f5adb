"""A process of Dramatiq: `python -m benchmarks.outage.dramatiq_worker URL`, until SIGTERM. It has as many threads as our worker slots."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from importlib import import_module
from typing import Any, Final

from benchmarks.outage.dramatiq_jobs import Work, actors, broker

THREADS: Final = 100
STOP_MS: Final = 5_000


def main() -> None:
    """Work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--breaker", default="", help="name of an in-process breaker library")
    parser.add_argument("--cooldown", type=float, default=3.0)
    parser.add_argument("--retry", type=float, default=5.0, help="seconds before the first retry")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # a traceback for each failure would cost more than the job
    made = broker(options.url)
    actors(made, options.retry, Work(options.breaker, options.cooldown).run)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    library: Any = import_module("dramatiq")
    worker = library.Worker(made, worker_threads=THREADS)
    worker.start()
    print("ready", flush=True)
    over.wait()
    worker.stop(STOP_MS)
    made.close()


if __name__ == "__main__":
    main()
