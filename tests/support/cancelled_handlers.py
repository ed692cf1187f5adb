"""Handlers of jobs that somebody asks to cancel while they run. Each line of `notes.txt` says what one has seen."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from sickbay import Job, JobError, handler

HERE: Final = Path(__file__).parent


def note(job: Job, what: str) -> None:
    """Write that down."""
    with (HERE / "notes.txt").open("a") as notes:
        notes.write(f"{what} {job.payload['number']}\n")


@handler("looking", timeout=60)
def look_often(job: Job) -> None:
    """A plain handler that looks whether it is to end."""
    note(job, "began")
    while not job.cancel_event.wait(0.05):
        job.progress(0.5)
    note(job, "saw it")
    raise JobError("STOPPED", "at a safe place")


@handler("waiting", timeout=60, cancel_grace=0.2)
async def wait_for_ever(job: Job) -> None:
    """Does not look, and is cancelled after its grace."""
    note(job, "began")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(job, "cancelled")
        raise


@handler("completing", timeout=60, cancel_grace=60)
async def complete_all_the_same(job: Job) -> Any:
    """Sees it, and completes when the test says so."""
    note(job, "began")
    await job.wait_cancelled()
    note(job, "saw it")
    while not (HERE / "release").exists():
        await asyncio.sleep(0.02)
    return {"completed": job.payload["number"]}


@handler("racing", timeout=60, retry={"max": 1, "delay": 0.05})
async def end_somehow(job: Job) -> Any:
    """Ends after so many milliseconds."""
    await asyncio.sleep(job.payload["ms"] / 1000)
    if job.payload["number"] % 2:
        raise JobError("BAD_REQUEST")
    return job.payload["number"]
