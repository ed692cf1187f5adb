"""How much a perfect system could have done: it knows at any moment what the dependency can serve, and wastes no call. Pure."""

from __future__ import annotations

import math
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


def possible(scenario: Scenario, trace: Trace, submitted: Sequence[float], grace_s: float) -> Possible:
    """During the illness; or from the return until a perfect system is done with all that waited, and `grace_s` longer.

    The grace is for those who do not know at every moment how the dependency is: nobody who asks it only now and then can be perfect.
    """
    times, begins = sorted(submitted), trace.ill if scenario.during else trace.back
    waiting = done = 0.0
    now, next_one, ends = trace.ill, 0, trace.back if scenario.during else math.inf
    while now < min(ends, trace.ended):
        while next_one < len(times) and times[next_one] <= now:
            waiting += times[next_one] >= trace.ill
            next_one += 1
        can = scenario.ill.serves(now - trace.ill) if now < trace.back else scenario.capacity
        served = min(waiting, can * STEP_S)
        waiting -= served
        done += served if now >= begins else 0.0
        now += STEP_S
        if now > trace.back and waiting < 1.0:
            ends = min(ends, now + grace_s)
    return Possible(begins, now, done)
