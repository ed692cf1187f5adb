"""Brings runs from the threads of handlers back to the worker's loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from worker.run import Run


class Reports:
    """A queue from any thread to the worker's loop; one wake-up of the loop takes many reports."""

    def __init__(self, worker_loop: asyncio.AbstractEventLoop, take: Callable[[Run], None]) -> None:
        """`take` is called on the worker's loop with each run that is reported, in order."""
        self._worker_loop = worker_loop
        self._take = take
        self._reports: deque[Run] = deque()
        self._waking = False

    def put(self, run: Run) -> None:
        """Report a run: it has an outcome or something to await, or its handler has ended. For handlers' threads."""
        self._reports.append(run)
        if not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed
                self._worker_loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._waking = False
        while self._reports:
            self._take(self._reports.popleft())
