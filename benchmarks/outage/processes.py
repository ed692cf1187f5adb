"""Child processes: started, waited for until they are ready, and ended with whatever started them."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.outage.client import Control

ROOT: Final = Path(__file__).parents[2]
READY_S: Final = 60.0
STOP_S: Final = 15.0


class Child:
    """A module run as a process, whose output goes to a file."""

    def __init__(self, process: Process, log: Path) -> None:
        """See `child`."""
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def said(self, pattern: re.Pattern[str], times: int = 1) -> list[tuple[str, ...]]:
        """Wait until it has written lines like that; their groups. Nobody tells when a file grows, so this looks again and again."""
        deadline = time.monotonic() + READY_S
        while len(found := pattern.findall(self.output)) < times:
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise OSError(f"{self._log.stem} does not become ready:\n{self.output[-2_000:]}")
            await asyncio.sleep(0.05)
        return [match if isinstance(match, tuple) else (match,) for match in found]

    @property
    def output(self) -> str:
        """Everything so far."""
        return self._log.read_text("utf-8", errors="replace")


@asynccontextmanager
async def child(words: Sequence[str], folder: Path, env: Mapping[str, str], name: str = "") -> AsyncIterator[Child]:
    """`python -m WORDS...` in `folder`, ended at the end: asked to stop, then killed."""
    log = folder / f"{name or words[0]}.log"
    with log.open("wb") as output:
        own = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | dict(env)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *words, cwd=folder, env=own, stdin=DEVNULL, stdout=output, stderr=STDOUT, start_new_session=True
        )
    try:
        yield Child(process, log)
    finally:
        await end(process)


async def end(process: Process) -> None:
    """Ask it to stop; kill it if it does not."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def dependency(capacity: float, seed: int) -> AsyncIterator[tuple[int, Control]]:
    """A fake dependency: its port and our connection for orders."""
    words = ["benchmarks.outage.dependency", f"--capacity={capacity}", f"--seed={seed}"]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *words, cwd=ROOT, stdin=PIPE, stdout=PIPE, start_new_session=True)
    assert process.stdout is not None  # noqa: S101 - opened with a pipe
    assert process.stdin is not None  # noqa: S101 - the same
    try:
        async with asyncio.timeout(READY_S):
            port = int((await process.stdout.readline()).split()[-1])
        control = await Control.connected(port)
        yield port, control
        await control.close()
    finally:
        process.stdin.close()  # its end
        await end(process)
