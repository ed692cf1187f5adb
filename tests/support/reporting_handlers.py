"""Handlers that return what the payload asks for, and that say how far they are.

Those that wait go on when the test makes the file `release` beside this module.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sickbay import Job, handler

HERE: Final = Path(__file__).parent


@dataclass
class Invoice:
    """What is returned as an object."""

    number: int
    lines: list[str]


@handler("returning")
async def return_what_is_asked_for(job: Job) -> Any:
    """The payload's `value`, or an object."""
    return job.payload.get("value", Invoice(7, ["é"]))


@handler("returning-sync")
def return_in_a_thread(job: Job) -> Any:
    """The same in a thread."""
    return job.payload.get("value", Invoice(7, ["é"]))


class Evil:
    """Claims to be a dataclass, and raises whatever is read of it."""

    __dataclass_fields__ = Invoice.__dataclass_fields__

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)

    __iter__ = __str__ = __repr__ = __bool__ = __len__ = lambda self: self.nothing


def _deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


def _circle() -> dict[str, Any]:
    ring: dict[str, Any] = {}
    ring["again"] = ring
    return ring


HOSTILE: Final[dict[str, Callable[[], Any]]] = {
    "text": lambda: "x" * 150_000_000,
    "numbers": lambda: [1] * 20_000_000,
    "deep": _deep,
    "circle": _circle,
    "evil": Evil,
    "surrogate": lambda: "\ud800",
    "not a number": lambda: [float("nan")],
    "object": object,
}


@handler("hostile")
async def return_on_the_loop(job: Job) -> Any:
    """What the payload names."""
    return HOSTILE[job.payload["what"]]()


@handler("hostile-sync")
def return_hostile_in_a_thread(job: Job) -> Any:
    """The same in a thread."""
    return HOSTILE[job.payload["what"]]()


@dataclass
class Deadly:
    """Kills its process when it is read for the first time: after the run, and before anything of it is durable."""

    run: int

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name == "run" and value == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return value


@handler("telling", timeout=60)
async def say_how_far_it_is(job: Job) -> None:
    """Says it often, the last word being `2 of 4`, and waits; then says more and ends at once."""
    for number in range(1_000):
        job.progress(number / 2_000, f"{number} of 2000")
    job.progress(0.5, "2 of 4")
    while not (HERE / "release").exists():
        await asyncio.sleep(0.02)
    job.progress(0.75, "3 of 4")


@handler("telling-sync", timeout=60)
def say_it_from_another_thread(job: Job) -> None:
    """The same from a thread of its own."""

    def work() -> None:
        job.progress(0.5, "2 of 4")
        while not (HERE / "release").exists():
            time.sleep(0.02)
        job.progress(0.75, "3 of 4")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@handler("telling-twice", timeout=60, retry={"delay": 0.05})
async def say_it_and_fail(job: Job) -> None:
    """Says something in its first run, which fails when the test says so, and nothing in its second."""
    if job.attempt == 0:
        job.progress(0.9, "nearly")
    while not (HERE / ("fail" if job.attempt == 0 else "release")).exists():
        await asyncio.sleep(0.02)
    if job.attempt == 0:
        raise ConnectionRefusedError


@handler("mistaken", retries={"VALUE_ERROR": 0})
async def say_nonsense(job: Job) -> None:
    """More than everything."""
    job.progress(40)


@handler("deadly")
async def return_the_number_of_the_run(job: Job) -> Any:
    """How many runs there were, this one included."""
    with (HERE / "runs.txt").open("a") as runs:
        runs.write("run\n")
    while not (HERE / "release").exists():
        await asyncio.sleep(0.02)
    return Deadly((HERE / "runs.txt").read_text().count("run"))
