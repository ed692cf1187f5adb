"""Handlers that submit follow-up jobs. Each line of `notes.txt` says what one has done."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, Final

from sickbay import Job, JobError, handler

HERE: Final = Path(__file__).parent


def note(what: str) -> None:
    """Write that down."""
    with (HERE / "notes.txt").open("a") as notes:
        notes.write(f"{what}\n")


@handler("parent", retry={"delay": 0.05})
async def submit_two_and_fail(job: Job) -> Any:
    """Fails in its first run, after it has submitted both."""
    ids = [await job.submit("child", {"of": job.job_id, "n": number}) for number in range(2)]
    job.log.info("submitted both", extra={"ids": ids})
    if job.attempt == 0:
        raise JobError("BAD_REQUEST", "once")
    return ids


@handler("dying", timeout=60)
def submit_one_and_wait(job: Job) -> Any:
    """A plain handler that waits between the two."""
    first = job.submit("child", {"of": job.job_id, "n": 0}).result()
    note(f"submitted {first}")
    waiting = threading.Event()
    while not (HERE / "release").exists():
        waiting.wait(0.02)
    return [first, job.submit("child", {"of": job.job_id, "n": 1}).result()]


@handler("wrong", retry={"max": 0})
async def submit_what_is_rejected(job: Job) -> None:
    """As the payload says."""
    for asked in job.payload["jobs"]:
        await job.submit(**asked)
        await asyncio.sleep(0)


@handler("child")
async def be_a_child(job: Job) -> Any:
    """Its tenant, and how long it may take."""
    assert job.deadline is not None
    return {"tenant": job.tenant, "of": job.payload.get("of")}
