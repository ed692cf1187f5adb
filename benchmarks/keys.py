"""What idempotency keys cost: jobs accepted per second with a key each and without, in one process, everything durable. Half a minute.

    .venv/bin/python -m benchmarks.keys [--redis URL]

The queue and, without a Redis, the keys are in SQLite files. No worker runs, and there is no gRPC in between.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import uvloop

from sickbay.adapters.redis.keys import RedisIdempotencyKeys
from sickbay.contract.requests import Submission
from sickbay.domain.queries import Accepted
from sickbay.runtime.backends import open_up
from sickbay.runtime.settings import Settings
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter

PAYLOAD = b'{"to": "user@example.com", "subject": "Hello", "body": "Message content"}'
IN_FLIGHT = 4


async def rate(submitter: JobSubmitter, size: int, seconds: float, *, keyed: bool) -> float:
    """Jobs accepted per second in batches of `size`, of which IN_FLIGHT are on their way."""
    run, numbers, accepted = uuid4(), itertools.count(), 0
    began = time.perf_counter()

    async def client() -> None:
        nonlocal accepted
        while time.perf_counter() - began < seconds:
            batch = [Submission("noop", "default", PAYLOAD, f"{run}-{next(numbers)}" if keyed else "") for _ in range(size)]
            results = await submitter.accept(batch)
            if not all(isinstance(result, Accepted) and not result.duplicate for result in results):
                raise SystemExit(f"not accepted: {results[0]}")
            accepted += size

    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
    return accepted / (time.perf_counter() - began)


async def measure(folder: Path, redis: str | None, seconds: float, rounds: int) -> None:
    """Print the median and the range for each size."""
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(open_up(Settings.read(), folder))
        keys = await stack.enter_async_context(RedisIdempotencyKeys(redis)) if redis else backends.keys
        submitter = JobSubmitter(backends.broker, keys, RecentJobs(), backends.clock)
        for size, keyed in itertools.product((1, 10, 100, 1_000), (True, False)):
            rates = [await rate(submitter, size, seconds, keyed=keyed) for _ in range(rounds)]
            what = f"{'with' if keyed else 'without'} keys, {size} at a time"
            print(f"{what:<32} {statistics.median(rates):8.0f} jobs/s ({min(rates):.0f} to {max(rates):.0f})", flush=True)


def main() -> None:
    """Measure in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", help="the URL of a Redis for the keys; it keeps them for a day")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(Path(folder), options.redis, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
