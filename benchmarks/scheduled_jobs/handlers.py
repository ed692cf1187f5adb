"""The handler that Sickbay runs, loaded as JOB_HANDLERS: it writes down when it starts, in the file SCHEDULED_STARTS."""

from __future__ import annotations

import os
import time
from typing import Final

from benchmarks.scheduled_jobs.figures import Start
from sickbay import Job, handler

_starts: Final = os.open(os.environ["SCHEDULED_STARTS"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)


@handler("timed")
async def timed(job: Job) -> None:
    """One line for each run."""
    os.write(_starts, Start(job.payload["batch"], job.payload["n"], job.run_at, time.time_ns() // 1000).line)
