"""A process of Dramatiq: `python -m benchmarks.isolation.dramatiq_worker URL`, until SIGTERM. As many threads as our worker has slots."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from importlib import import_module
from typing import Any, Final

from benchmarks.isolation.dramatiq_jobs import Work, actors, broker

THREADS: Final = 100
STOP_MS: Final = 1_000


def main() -> None:
    """Work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--by-hand", action="store_true", help="a queue for each type and priority")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # a traceback for each failure would cost more than the job
    made = broker(options.url)
    actors(made, Work().run, by_hand=options.by_hand)
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
