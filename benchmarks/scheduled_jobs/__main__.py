"""What jobs that are to run later cost, and how late they start: `python -m benchmarks.scheduled_jobs`.

    python -m benchmarks.scheduled_jobs --scale 0.1     smaller
    python scripts/with_servers.py python -m benchmarks.scheduled_jobs --stack distributed

One look of the scheduler at a ledger with 100,000 scheduled jobs; the cost of a submit; the CPU of idling beside them; how late jobs start
that become due at 100 per second, and 10,000 at the same moment. What is compared was measured in the same run: compare the ratios.
About five minutes, of which two are idle.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.scheduled_jobs import looks
from benchmarks.scheduled_jobs.figures import lateness, times, took_s
from benchmarks.scheduled_jobs.looks import DAY_MS, clock
from benchmarks.scheduled_jobs.system import Batch, System, distributed, embedded

SCHEDULED: Final = 100_000
RATE: Final = 100
DUE_S: Final = 30
BURST: Final = 10_000
SUBMITS: Final = 5_000
SINGLE: Final = 200
"""Jobs that are submitted one by one."""
TURNS: Final = 3
IDLE_S: Final = 60
SETTLE_S: Final = 2
LEAD_S: Final = 5
"""Between the last submit of jobs and the time when the first is due."""
FORMS: Final = {"embedded": (looks.sqlite, embedded), "distributed": (lambda _: looks.postgresql(), distributed)}


async def measure(stack: str, folder: Path, scale: float) -> None:
    """Everything, printed as it comes."""
    scene, form = FORMS[stack]
    count = int(SCHEDULED * scale)
    async with scene(folder) as ledgers:
        await looks.look_at("a", ledgers, count)
    async with form(folder) as system:
        await system.submit(Batch("first", 1))
        await system.starts("first", 1)
        without = await idle_s(system, IDLE_S * min(1, scale))
        await system.submit(_later("others", count))
        await system.until_in_state("SCHEDULED", count)
        await system.analyze()
        beside = await idle_s(system, IDLE_S * min(1, scale))
        print(
            f"c: idle, the control plane uses {beside:.2f} s of CPU in a minute with {count:,} scheduled jobs, {without:.2f} s without: "
            f"{times([beside], [without])}",
            flush=True,
        )
        await due_steadily(system, int(RATE * DUE_S * scale))
        await bursts(system, int(BURST * scale))
        await submits(system, int(SUBMITS * scale))


def _later(name: str, count: int) -> Batch:
    return Batch(name, count, dict.fromkeys(range(count), clock() + DAY_MS))


async def idle_s(system: System, seconds: float) -> float:
    """c: the CPU seconds that the control plane uses in a minute in which nothing is submitted."""
    await asyncio.sleep(LEAD_S)
    cpu, began = system.cpu_s("controlplane"), time.perf_counter()
    await asyncio.sleep(seconds)
    return (system.cpu_s("controlplane") - cpu) / (time.perf_counter() - began) * 60


async def due_steadily(system: System, count: int) -> None:
    """b: how late jobs start that become due at RATE a second; all were submitted before the first one is due."""
    first = clock() + LEAD_S * 1_000 + count
    await system.submit(Batch("due", count, {number: first + number * 1_000 // RATE for number in range(count)}))
    if clock() > first:
        raise SystemExit("submitting took longer than expected, so the first jobs were late")
    print(f"b: due at {RATE}/s, from that time to the start of the run, {lateness(await system.starts('due', count))}", flush=True)


async def bursts(system: System, count: int) -> None:
    """e: how long it takes until so many jobs run that are due at the same moment, beside so many that are submitted at once."""
    due, at_once = [], []
    for turn in range(TURNS):
        began = time.time_ns() // 1_000
        await system.submit(Batch(f"at-once-{turn}", count))
        at_once.append(took_s(await system.starts(f"at-once-{turn}", count), began))
        before = await system.in_state("SCHEDULED")
        moment = clock() + LEAD_S * 1_000 + count
        await system.submit(Batch(f"burst-{turn}", count, dict.fromkeys(range(count), moment)))
        await system.until_in_state("SCHEDULED", before + count)
        due.append(took_s(await system.starts(f"burst-{turn}", count), moment * 1_000))
    print(
        f"e: {count:,} jobs that are due at the same moment have all begun after {statistics.median(due):.2f} s, submitted at once after "
        f"{statistics.median(at_once):.2f} s: {times(due, at_once)}",
        flush=True,
    )


async def submits(system: System, count: int) -> None:
    """d: what it costs to submit jobs that are to run later, beside jobs that run at once."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    cpus: dict[bool, list[float]] = {True: [], False: []}
    calls: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(TURNS):
        for later in (False, True):
            name = f"{'later' if later else 'now'}-{turn}"
            batch = _later(name, count) if later else Batch(name, count)
            cpu, began = system.cpu_s("jobapi"), time.perf_counter()
            await system.submit(batch)
            rates[later].append(count / (time.perf_counter() - began))
            await _taken_in(system, batch)
            cpus[later].append((system.cpu_s("jobapi") - cpu) / count * 1e6)
            single = _later(f"{name}-single", SINGLE) if later else Batch(f"{name}-single", SINGLE)
            calls[later].append(await _call_ms(system, single))
            await _taken_in(system, single)
    print(
        f"d: submitted in batches, jobs that run later are accepted at {statistics.median(rates[True]):,.0f}/s, "
        f"those that run at once at {statistics.median(rates[False]):,.0f}/s: {times(rates[True], rates[False])}; "
        f"CPU of the process {statistics.median(cpus[True]):.0f} and {statistics.median(cpus[False]):.0f} us a job: "
        f"{times(cpus[True], cpus[False])}; one call {statistics.median(calls[True]):.2f} and {statistics.median(calls[False]):.2f} ms: "
        f"{times(calls[True], calls[False])}",
        flush=True,
    )


async def _taken_in(system: System, batch: Batch) -> None:
    """Wait until nothing is left to do for these jobs."""
    if batch.run_at is None:
        await system.starts(batch.name, batch.count)
    await asyncio.sleep(SETTLE_S)


async def _call_ms(system: System, batch: Batch) -> float:
    took = []
    for number in range(batch.count):
        began = time.perf_counter()
        await system.submit_one(batch, number)
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def main() -> None:
    """Measure in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", choices=sorted(FORMS), default="embedded", help="the form; default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="smaller is shorter")
    parser.add_argument("--folder", type=Path, help="where to put the data; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        uvloop.run(measure(options.stack, Path(folder), options.scale))


if __name__ == "__main__":
    main()
