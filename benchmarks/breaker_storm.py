"""How many probes a storm at the end of the cooldown lets through, and what happens when the prober is killed: ours, and other libraries'.

    python benchmarks/breaker_storm.py [--redis redis://localhost:6379/13]

Needs a Redis; takes less than 30 s. Libraries beside ours run if they are installed:
`pip install pybreaker aiobreaker purgatory interlock-cb`. Each contender has 40 breakers, each with a connection of its own, in four
processes. They see a circuit open, wait until its cooldown is over, and all ask at the same moment; the dependency then takes half a
second to answer, so every run that begins is one the circuit should have held back, but for one. In a second round the process that got
the probe is killed with -9, and the others ask until one is let in.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.domain.breaker import BreakerConfig, BreakerKey
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind

sys.path.insert(0, str(Path(__file__).parent))
from breaker_contenders import CONTENDERS, COOLDOWN_S, LEASE_S, THRESHOLD, Attempt, installed

PROCESSES: Final = 4
BREAKERS_EACH: Final = 10
HOLD_S: Final = 0.5
SLACK_S: Final = 1.2
"""Some of them keep the time in whole seconds."""
PATIENCE_S: Final = 6.0
DOWN: Final = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT")


# What a worker process does: one line in, one line out.


async def work(name: str, url: str, circuits: list[str]) -> None:
    """Serve the verbs for a circuit until the input ends."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * BREAKERS_EACH))
    made = {circuit: [await CONTENDERS[name](url, circuit) for _ in range(BREAKERS_EACH)] for circuit in circuits}
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, circuit = line.split()
        say(str(await VERBS[verb](made[circuit])))
    os._exit(0)  # some leave threads behind that nobody can end


async def trip(breakers: list[Attempt]) -> str:
    """Fail until the circuit is open."""
    for _ in range(THRESHOLD):
        await breakers[0](0.0, True)
    return "tripped"


async def see(breakers: list[Attempt]) -> str:
    """Each asks until it is refused, so that nobody is in the storm who does not know; some hear of it by polling."""

    async def learn(attempt: Attempt) -> None:
        for _ in range(5):
            if not await attempt(0.0, False):
                break
            await asyncio.sleep(0.15)

    await asyncio.gather(*map(learn, breakers))
    return "seen"


async def storm(breakers: list[Attempt]) -> int:
    """All at once; how many ran."""
    return sum(await asyncio.gather(*(attempt(HOLD_S, True) for attempt in breakers)))


async def hang(breakers: list[Attempt]) -> str:
    """Take the probe and never end; says so at once."""
    probing = asyncio.ensure_future(breakers[0](3_600.0, False))
    done, _ = await asyncio.wait([probing], timeout=HOLD_S)
    return "refused" if done else "probing"


async def recover(breakers: list[Attempt]) -> float:
    """Ask again and again; the moment of the first run, 0 if there is none in time."""
    end = time.time() + PATIENCE_S
    while time.time() < end:
        for attempt in breakers[:2]:
            if await attempt(0.0, False):
                return time.time()
        await asyncio.sleep(0.05)
    return 0.0


VERBS: Final = {"trip": trip, "see": see, "storm": storm, "hang": hang, "recover": recover}


def say(line: str) -> None:
    """One line for the parent."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# What the parent does.


@dataclass
class Row:
    """One line of the table."""

    name: str
    probes: int = 0
    recovered_s: float | None = None
    fault: str = ""


async def tell(process: Process, verb: str, circuit: str) -> str:
    """Give a worker one order and wait for its answer."""
    assert process.stdin is not None  # noqa: S101 - opened with a pipe
    process.stdin.write(f"{verb} {circuit}\n".encode())
    return await heard(process)


async def heard(process: Process) -> str:
    """The next line of a worker; what libraries print in between is passed over."""
    assert process.stdout is not None  # noqa: S101 - opened with a pipe
    line = (await process.stdout.readline()).decode().strip()
    if not line:
        raise RuntimeError("its worker ended with a fault")
    return line


@asynccontextmanager
async def workers(name: str, url: str, circuits: list[str]) -> AsyncIterator[list[Process]]:
    """Processes that are ready."""
    command = [sys.executable, __file__, "--worker", name, "--redis", url, "--circuits", ",".join(circuits)]
    started = [
        await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL) for _ in range(PROCESSES)
    ]
    try:
        await asyncio.gather(*map(heard, started))
        yield started
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def race(name: str, url: str, tag: str, alone: asyncio.Lock) -> Row:
    """Both rounds of one contender; the storms of different contenders never overlap."""
    row, circuits = Row(name), [f"{tag}-storm", f"{tag}-kill"]
    try:
        async with workers(name, url, circuits) as fleet:
            for circuit in circuits:
                await tell(fleet[0], "trip", circuit)
                await asyncio.gather(*(tell(one, "see", circuit) for one in fleet))
            await asyncio.sleep(COOLDOWN_S + SLACK_S)
            async with alone:
                row.probes = sum(map(int, await asyncio.gather(*(tell(one, "storm", circuits[0]) for one in fleet))))
            if await tell(fleet[0], "hang", circuits[1]) == "probing":
                fleet[0].kill()
                killed = time.time()
                back = [float(moment) for moment in await asyncio.gather(*(tell(one, "recover", circuits[1]) for one in fleet[1:]))]
                row.recovered_s = min((moment - killed for moment in back if moment), default=None)
            else:
                row.fault = "gave no probe to hold"
    except (RuntimeError, ValueError) as error:
        row.fault = str(error)
    return row


async def costs(url: str, tag: str) -> list[str]:
    """What our breaker takes: on the healthy path here, and inside Redis for a failure."""
    async with RedisBreakers(url, BreakerConfig(failure_threshold=1_000)) as breakers, Redis.from_url(url) as redis:
        key, times = BreakerKey(f"{tag}-cost"), 20_000
        permit = await breakers.admit(key, "job")
        begun = time.perf_counter()
        for _ in range(times):
            await breakers.admit(key, "job")
        admitted = time.perf_counter()
        for _ in range(times):
            await breakers.settle(permit, SUCCESS)  # type: ignore[arg-type]  # a healthy circuit gives a permit
        settled = time.perf_counter()
        before = (await redis.info("commandstats"))["cmdstat_evalsha"]
        for number in range(300):
            await breakers.settle(await breakers.admit(key, f"job-{number}"), (DOWN, SUCCESS)[number % 5 == 4])  # type: ignore[arg-type]
        ended = time.perf_counter()
        after = (await redis.info("commandstats"))["cmdstat_evalsha"]
    server_us = (after["usec"] - before["usec"]) / (after["calls"] - before["calls"])
    return [
        f"healthy path: admit {(admitted - begun) / times * 1e6:.2f} us, settle {(settled - admitted) / times * 1e6:.2f} us, no call",
        f"a failure: {server_us:.0f} us of Redis, {(ended - settled) / 300 * 1e6:.0f} us until the answer is here",
    ]


def table(rows: list[Row]) -> list[str]:
    """The rows as text."""
    lines = [f"{'':14} {'probes of 40 (want 1)':>22}   after the prober was killed -9"]
    for row in rows:
        again = f"recovered after {row.recovered_s:.1f} s" if row.recovered_s is not None else f"not within {PATIENCE_S:.0f} s"
        lines.append(f"{row.name:14} {row.probes:>22}   {row.fault or again}")
    return lines


async def clear(url: str, tag: str) -> None:
    """Remove every key of this run."""
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter(match=f"*{tag}*"):
            await redis.delete(key)
        for field in await redis.hkeys("breakers"):
            if tag.encode() in field:
                await redis.hdel("breakers", field)


async def main(url: str) -> None:
    """Race everybody who is installed and print one table."""
    tag = f"storm-{uuid.uuid4().hex[:8]}"
    alone, names = asyncio.Lock(), [name for name in CONTENDERS if installed(name)]
    try:
        print(*await costs(url, tag), sep="\n")
        print(
            f"cooldown {COOLDOWN_S:.0f} s, our lease {LEASE_S:.0f} s; not installed: {', '.join(set(CONTENDERS) - set(names)) or 'none'}\n"
        )
        rows = await asyncio.gather(*(race(name, url, f"{tag}-{name}", alone) for name in names))
        print(*table(list(rows)), sep="\n")
    finally:
        await clear(url, tag)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", default="redis://localhost:6379/13", help="default: %(default)s; only keys of its own are touched")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--circuits", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        asyncio.run(work(given.worker, given.redis, given.circuits.split(",")))
    else:
        asyncio.run(main(given.redis))
