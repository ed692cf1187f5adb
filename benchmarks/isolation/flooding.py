"""The floods, handed in by a process of their own: another client than the one whose waits are measured, which they must not slow down.

`python -m benchmarks.isolation.flooding WHO ADDRESS FLOODS` connects, says that it is ready, waits for a line, hands all floods in as fast
as they are taken, and ends. FLOODS is JSON: `[[{"kind": ..., "ms": ..., "tenant": ..., "priority": ...}, first number, count], ...]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

import uvloop

from benchmarks.isolation.clients import connected
from benchmarks.isolation.rows import Batch
from benchmarks.outage.processes import READY_S, ROOT, end

Numbered = tuple[Batch, range]
"""Jobs that are alike, and their numbers."""
_READY: Final = b"ready\n"


class Flooding:
    """A process that is ready to hand in its floods."""

    def __init__(self, process: Process) -> None:
        """See `flooding`."""
        self._process = process

    async def run(self) -> None:
        """Let it go; returns when all jobs are durable. OSError if one was refused."""
        _, errors = await self._process.communicate(b"\n")
        if self._process.returncode:
            raise OSError(f"the flood failed: {errors.decode(errors='replace')[-2_000:]}")


@asynccontextmanager
async def flooding(who: str, address: str, floods: Sequence[Numbered]) -> AsyncIterator[Flooding]:
    """The process, connected; ended at the end. OSError if it does not become ready."""
    words = [who, address, json.dumps([(asdict(batch), numbers.start, len(numbers)) for batch, numbers in floods])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *words, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101 - opened with a pipe
    try:
        async with asyncio.timeout(READY_S):
            if await process.stdout.readline() != _READY:
                _, errors = await process.communicate()
                raise OSError(f"the flood does not become ready: {errors.decode(errors='replace')[-2_000:]}")
        yield Flooding(process)
    finally:
        await end(process)


async def _flood(who: str, address: str, floods: Sequence[Numbered]) -> None:
    async with connected(who, address) as client:
        sys.stdout.write(_READY.decode())
        sys.stdout.flush()
        if await asyncio.to_thread(sys.stdin.readline):
            await asyncio.gather(*(client.flood(batch, numbers) for batch, numbers in floods))


if __name__ == "__main__":
    _who, _address, _floods = sys.argv[1:]
    uvloop.run(_flood(_who, _address, [(Batch(**batch), range(first, first + count)) for batch, first, count in json.loads(_floods)]))
