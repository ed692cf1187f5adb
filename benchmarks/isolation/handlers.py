"""The handlers that Sickbay runs, loaded as JOB_HANDLERS: they write down that they start, then take the time that the payload says.

ISOLATION_STARTS is the file that hears of every run, ISOLATION_TIMEOUT the seconds that a run may take.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from benchmarks.isolation.rows import KINDS
from benchmarks.isolation.trace import line, opened
from sickbay import Job, handler

_starts: Final = opened()


async def work(job: Job) -> None:
    """Sleep for so many milliseconds, or for ever."""
    os.write(_starts, line(time.monotonic(), job.job_type, job.payload["n"]))
    ms = job.payload["ms"]
    if ms < 0:
        await asyncio.Event().wait()
    elif ms:
        await asyncio.sleep(ms / 1_000)


for _kind in KINDS:
    handler(_kind, timeout=float(os.environ["ISOLATION_TIMEOUT"]))(work)
