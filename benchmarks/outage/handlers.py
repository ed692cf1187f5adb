"""The handlers that Sickbay runs: `email` and `invoice` call the fake dependency, `sms` and `report` do not. Loaded as JOB_HANDLERS.

OUTAGE_PORT is the dependency's, OUTAGE_TIMEOUT the seconds that a run may take, OUTAGE_STARTS the file that hears of every run.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from benchmarks.outage.client import Faulty, Full, Limited, Pool
from sickbay import Job, JobError, handler

TIMEOUT_S: Final = float(os.environ["OUTAGE_TIMEOUT"])
REPORT_S: Final = 0.2
_pool: Final = Pool(int(os.environ["OUTAGE_PORT"]))
_starts: Final = os.open(os.environ["OUTAGE_STARTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(job: Job) -> None:
    """One line for each run, written at once."""
    os.write(_starts, f"{time.monotonic():.6f} {job.job_type} {job.payload['n']}\n".encode())


async def call_dependency(job: Job) -> None:
    """What a user writes: timeouts and refused connections are raised as they are, the rest is said in our codes."""
    note(job)
    try:
        await _pool.call(job.job_type, job.payload["n"])
    except Limited as error:
        raise JobError("RATE_LIMITED", error, retry_after=error.retry_after) from None
    except Full as error:
        raise JobError("SERVICE_UNAVAILABLE", error) from None
    except Faulty as error:
        raise JobError("HTTP_500", error) from None


handler("email", timeout=TIMEOUT_S)(call_dependency)
handler("invoice", timeout=TIMEOUT_S)(call_dependency)


@handler("sms")
async def send_sms(job: Job) -> None:
    """A type that does not use the dependency."""
    note(job)


@handler("report")
async def write_report(job: Job) -> None:
    """Another one, whose jobs take a while."""
    note(job)
    await asyncio.sleep(REPORT_S)
