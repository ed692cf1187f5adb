"""Handlers as badly behaved as they come. Those that block or hang go on until the test makes the file `release` beside this module."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sickbay import Job, handler

HERE: Final = Path(__file__).parent


class Panic(BaseException):
    """As extensions in Rust raise it."""


def _note(what: str) -> None:
    with (HERE / "notes.txt").open("a") as notes:
        notes.write(f"{what}\n")


def _block() -> None:
    while not (HERE / "release").exists():
        time.sleep(0.02)


RAISED: Final[dict[str, Callable[[], BaseException]]] = {
    "interrupt": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "generator-exit": GeneratorExit,
    "group": lambda: BaseExceptionGroup("g", [Panic()]),
    "panic": Panic,
    "surrogate": lambda: FileNotFoundError(2, "No such file", "\udcff.txt"),
    "cancelled": asyncio.CancelledError,
}


def _raised(job: Job) -> BaseException:
    return RAISED[job.payload["what"]]()


@handler("raise", retries={"HANDLER_TIMEOUT": 0})
async def raise_on_the_loop(job: Job) -> None:
    """Raise what the payload names."""
    _note(f"raise {job.payload['what']}")
    raise _raised(job)


@handler("raise-sync")
def raise_in_a_thread(job: Job) -> None:
    """The same in a thread."""
    raise _raised(job)


@handler("child")
async def child_that_exits(job: Job) -> None:
    """A task of the handler's asks the process to exit."""

    async def child() -> None:
        raise _raised(job)

    await asyncio.create_task(child())


@handler("blocker", timeout=60)
async def block_the_loop(job: Job) -> None:
    """Calls what blocks, on the loop."""
    _note("blocker begins")
    _block()


@handler("hung", timeout=0.3, retries={"HANDLER_TIMEOUT": 1})
def hang(job: Job) -> None:
    """Never ends, in a thread."""
    _note("hung begins")
    _block()


@handler("nap", timeout=2)
async def nap(job: Job) -> None:
    """A healthy handler that takes most of its timeout."""
    _note("nap begins")
    await asyncio.sleep(1.5)


@handler("nap-sync", timeout=2)
def nap_in_a_thread(job: Job) -> None:
    """The same in a thread."""
    _note("nap-sync begins")
    threading.Event().wait(1.5)


@handler("healthy")
async def healthy(job: Job) -> None:
    """Nothing special."""


@handler("healthy-sync")
def healthy_in_a_thread(job: Job) -> None:
    """Nothing special, in a thread."""


async def _real(job: Job) -> None:
    await asyncio.sleep(0)
    _note("the body ran")


@handler("wrapped")
@functools.wraps(_real)
def wrapped(job: Job) -> Any:
    """An async function behind a plain decorator."""
    return _real(job)
