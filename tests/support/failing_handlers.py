"""Handlers that fail in all the ways that an operator has to understand afterwards; each holds a secret while it does."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from sickbay import Job, JobError, handler

HERE: Final = Path(__file__).parent
SECRET: Final = "hunter" + "2"
"""Said nowhere as it stands, not even in a line of code."""


class Email(BaseModel):
    """What a payload should be."""

    to: int


def look_up(job: Job) -> object:
    """A mistake, with the payload in reach."""
    secret = job.payload["token"]
    return job.payload["emial"], secret


@handler("misspelt")
async def misspelt(job: Job) -> None:
    """Fails in a function that it calls."""
    look_up(job)


@handler("misspelt-sync")
def misspelt_in_a_thread(job: Job) -> None:
    """The same in a thread."""
    look_up(job)


@handler("caused")
async def caused(job: Job) -> None:
    """Says what it was, and keeps from what it came."""
    try:
        look_up(job)
    except KeyError as error:
        raise JobError("BAD_TEMPLATE", "no such template", kind="data") from error


@handler("grouped")
async def grouped(job: Job) -> None:
    """Fails in a task."""

    async def part() -> None:
        look_up(job)

    async with asyncio.TaskGroup() as group:
        group.create_task(part())


@handler("invalid")
async def invalid(job: Job) -> None:
    """Data that a library refuses, whose message quotes it."""
    Email.model_validate(job.payload)


@handler("hanging", timeout=0.3, retries={"HANDLER_TIMEOUT": 1})
async def hanging(job: Job) -> None:
    """Waits for something that never comes."""
    await wait_for_reply()


async def wait_for_reply() -> None:
    """Here it hangs."""
    await asyncio.Event().wait()


@handler("hanging-sync", timeout=0.3, retries={"HANDLER_TIMEOUT": 1})
def hanging_in_a_thread(job: Job) -> None:
    """The same in a thread, until the test lets it go."""
    while not (HERE / "release").exists():
        time.sleep(0.02)


@handler("unwritable")
async def unwritable(job: Job) -> None:
    """A message that UTF-8 cannot hold."""
    raise FileNotFoundError(2, "No such file", "\udcff\0.txt")


@handler("telling")
async def telling(job: Job) -> None:
    """Tells its secret in every way."""
    logging.getLogger("failing").warning("the key is %s", SECRET)
    try:
        int(f"cause {SECRET}")
    except ValueError as error:
        raise RuntimeError(f"the key is {SECRET}") from error


def without_secrets(text: str) -> str:
    """For REDACT; fails where it is told to."""
    if "break the filter" in text:
        raise ValueError(text)
    return text.replace(SECRET, "***")


@handler("breaking")
async def breaking(job: Job) -> None:
    """Its failure breaks the filter."""
    raise RuntimeError(f"break the filter, {SECRET}")
