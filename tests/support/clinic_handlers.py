"""The handlers of the system tests: they do what the payload says, fail while their dependency is down, and write down every run.

`{"do": X}` with X `"ok"`, an error code, `"hold:GATE"` (until the test opens that gate), `"swallow"` (never ends, whoever cancels it),
or a list with one of these for each attempt, the last one repeating. A file `TYPE.down` beside this module holds the
code with which the dependency of that type fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Final

from sickbay import Job, JobError, handler

HERE: Final = Path(__file__).parent
LATENCY_S: Final = 0.02
TYPES: Final = (
    *("email", "sms", "webhook", "ok", "retry", "bad", "down", "outage", "silent", "held"),
    *("on-top",),
    *("urgent",),
    *("edit", "groups", "blip", "forced", "expiring", "switch", "shadow", "watched", "waited", "right", "shared"),
    *("cancel", "cancel-parked", "listed", "paged", "depth", "documented", "healthy", "counted"),
    *("hanging", "hung"),
    *("client-held", "async-client-held"),
    "later",
    *("browsed", "resumed", "resumed-circuit", "events", "incident", "flapping", "maintained"),
)


def note(job: Job, what: str) -> None:
    """One line, written at once, so that not even a kill loses it."""
    line = {"at": time.time_ns() // 1_000_000, "pid": os.getpid(), "job": job.job_id, "type": job.job_type}
    line |= {"generation": job.generation, "attempt": job.attempt, "priority": job.priority, "what": what}
    log = os.open(HERE / "runs.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, json.dumps(line).encode() + b"\n")
    os.close(log)


async def treat(job: Job) -> None:
    """Run any job."""
    note(job, "begin")
    await asyncio.sleep(LATENCY_S)
    wish = job.payload.get("do", "ok")
    if isinstance(wish, list):
        wish = wish[min(job.attempt, len(wish) - 1)]
    if wish.startswith("hold:"):
        await gate(wish.removeprefix("hold:"))
        wish = "ok"
    while wish == "swallow":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    down = HERE / f"{job.job_type}.down"
    if down.exists():
        raise JobError(down.read_text(), f"the dependency of {job.job_type} is down")
    if wish != "ok":
        raise JobError(wish, job.payload.get("says", "as the payload asked for"), retry_after=job.payload.get("retryAfter"))
    note(job, "done")


async def gate(name: str) -> None:
    """Wait for the test, which makes `NAME.open` and then writes to the pipe `NAME`; the pipe is opened first, so no wake-up is lost."""
    pipe = os.open(HERE / name, os.O_RDWR | os.O_NONBLOCK)
    loop, opened = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe, opened.set)
    try:
        if not (HERE / f"{name}.open").exists():
            await opened.wait()
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)


for job_type in TYPES:
    handler(job_type)(treat)
