"""Demo handlers: `email`, `sms` and `webhook`, on a simulated dependency with outages.

Each type's dependency works 10 times, then fails 5 times in a row with API_TIMEOUT, and so on. A payload may choose its outcome:
`{"simulate": "ok"}`, any error code (`"API_TIMEOUT"`, `"VALIDATION_ERROR"`, ...), `"sleep:2"` (seconds), `"crash"` (kills the
process, but only in `sickbay up` without other handlers and without RABBITMQ_URL, where there are no real jobs), or a list with one of
these for each attempt, the last one repeating: `["NETWORK_ERROR", "ok"]`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from itertools import count
from threading import Event
from typing import Any, Final

from sickbay import Job, JobError, handler
from sickbay.domain.job import is_code

GOOD: Final = 10
BAD: Final = 5
MAX_SLEEP_S: Final = 600

_calls: Final = defaultdict[str, "count[int]"](count)
_may_crash: Final = Event()


def allow_crash() -> None:
    """Enable `crash`: the demo is alone in this process, and no other process consumes jobs from its queue."""
    _may_crash.set()


@handler("email")
async def send_email(job: Job) -> None:
    """Pretend to send an email."""
    await _simulate(job)


@handler("sms")
async def send_sms(job: Job) -> None:
    """Pretend to send a text message."""
    await _simulate(job)


@handler("webhook")
async def call_webhook(job: Job) -> None:
    """Pretend to call somebody's webhook."""
    await _simulate(job)


async def _simulate(job: Job) -> None:
    simulated = job.payload.get("simulate")
    if isinstance(simulated, list):
        simulated = simulated[min(job.attempt, len(simulated) - 1)] if simulated else "ok"
    if simulated is None:
        _call_dependency(job.job_type)
    else:
        await _simulate_outcome(simulated)


def _call_dependency(job_type: str) -> None:
    if next(_calls[job_type]) % (GOOD + BAD) >= GOOD:
        raise JobError("API_TIMEOUT", f"the simulated {job_type} service did not answer")


async def _simulate_outcome(simulated: Any) -> None:
    if simulated == "ok":
        return
    if simulated == "crash":
        if not _may_crash.is_set():
            raise JobError("VALIDATION_ERROR", "crash works only where the demo runs alone: in `sickbay up` without RABBITMQ_URL")
        os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(simulated, str) and simulated.startswith("sleep:"):
        await asyncio.sleep(_seconds(simulated.removeprefix("sleep:")))
        return
    if isinstance(simulated, str) and is_code(simulated):
        raise JobError(simulated, "as requested in the payload")
    raise JobError("VALIDATION_ERROR", 'simulate must be "ok", "crash", "sleep:SECONDS", an error code, or a list of these')


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= MAX_SLEEP_S:
        raise JobError("VALIDATION_ERROR", f"sleep must be 0 to {MAX_SLEEP_S} seconds")
    return seconds
