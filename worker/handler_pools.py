"""Thread pools for `asyncio.to_thread` and `run_in_executor(None, ...)` in async handlers, one per job type.

With one pool for all, a job type whose calls hang would use up the threads of all others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

THREADS: Final = max(32, (os.cpu_count() or 1) + 4)
"""The maximum per job type; asyncio's own default, for the whole loop, is lower on small machines."""


class PoolsByType(ThreadPoolExecutor):
    """An executor with a pool for each job type. Loops only accept a ThreadPoolExecutor; its own threads never start."""

    def __init__(self, job_type: Callable[[], str]) -> None:
        """`job_type` returns the job type of the calling code."""
        super().__init__(max_workers=1)
        self._job_type = job_type
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._guard = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it in a thread of the caller's job type."""
        name = self._job_type()
        with self._guard:
            pool = self._pools.get(name)
            if pool is None:
                pool = self._pools[name] = ThreadPoolExecutor(THREADS, f"to-thread-{name}")
        return pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class's signature
        """Shut down all pools."""
        with self._guard:
            pools = list(self._pools.values())
        for pool in pools:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
