"""How much a perfect system could have done: it knows at any moment what the dependency can serve, and wastes no call. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.outage.scenarios import Scenario
from benchmarks.outage.trace import Trace

STEP_S: Final = 0.05


class Possible(NamedTuple):
    """So many jobs between these moments."""

    begins: float
    ends: float
    jobs: float


def possible(scenario: Scenario, trace: Trace, submitted: Sequence[float]) -> Possible:
    """During the illness, or from the return until a perfect system is done with all that waited."""
    times, begins = sorted(submitted), trace.ill if scenario.during else trace.back
    waiting = done = 0.0
    now, next_one = trace.ill, 0
    while now < trace.ended:
        while next_one < len(times) and times[next_one] <= now:
            waiting += times[next_one] >= trace.ill
            next_one += 1
        can = scenario.ill.serves(now - trace.ill) if now < trace.back else scenario.capacity
        served = min(waiting, can * STEP_S)
        waiting -= served
        done += served if now >= begins else 0.0
        now += STEP_S
        if (scenario.during and now >= trace.back) or (now > trace.back + 1.0 and waiting < 1.0):
            break
    return Possible(begins, now, done)
