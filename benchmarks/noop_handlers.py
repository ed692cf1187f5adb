"""Handlers that do nothing, for measuring everything around them."""

import os
import time
from pathlib import Path
from typing import Final

from sickbay import Job, handler

_starts: Final = Path(os.environ.get("BENCH_STARTS", os.devnull)).open("a", buffering=1, encoding="ascii")  # noqa: SIM115 - for the process's life


@handler("noop")
async def noop(job: Job) -> None:
    """Return at once."""


@handler("timed")
async def timed(job: Job) -> None:
    """Write down how long the way here took, in microseconds."""
    _starts.write(f"{(time.time_ns() - job.payload['sent']) // 1000}\n")
