"""What the fake dependency does with a call: it has a capacity and a condition. Pure: told the time, it says when it will answer what.

Its capacity of C calls a second is that of a service with a few slots: `k = round(C x 20 ms)` of them, at least one, each busy for
`k / C` (about 20 ms) with a call. A call that finds all slots busy waits, unless it would have to wait for longer than QUEUE_S: then it is
refused at once (`full`). So overload needs no mode of its own: it is what a load above C gets. Slots are kept as the times at which they
become free, so the capacity is exact however coarse the machine's timers are.

What is wrong is independent of that: an erroneous call takes its slot like any other, a slow one is answered later but frees its slot in
time, and calls that are refused, limited or left hanging take none.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Kind = Literal["up", "refusing", "hanging", "errors", "slow", "limited", "flapping"]
SERVICE_S: Final = 0.02
QUEUE_S: Final = 0.1
"""A tenth of a second's worth of calls may wait."""
NEVER: Final = math.inf


@dataclass(frozen=True, slots=True)
class Condition:
    """How the dependency is: `share` of errors, `wait_s` that slow ones take longer or that limited ones are told, or how it flaps."""

    capacity: float
    kind: Kind = "up"
    share: float = 0.0
    wait_s: float = 0.0
    down_s: float = 0.0
    up_s: float = 0.0

    def scaled(self, scale: float) -> Condition:
        """With all times multiplied; the capacity stays."""
        times = (value * scale for value in (self.wait_s, self.down_s, self.up_s))
        return Condition(self.capacity, self.kind, self.share, *times)

    def serves(self, for_s: float) -> float:
        """How many calls a second succeed at best, when it has been so for that long."""
        if self.kind in {"refusing", "hanging", "limited"} or self._is_down(for_s):
            return 0.0
        return self.capacity * (1 - self.share)

    def refuses(self, for_s: float) -> bool:
        """Whether calls are refused at once, whatever the load."""
        return self.kind == "refusing" or self._is_down(for_s)

    def _is_down(self, for_s: float) -> bool:
        return self.kind == "flapping" and for_s % (self.down_s + self.up_s) < self.down_s


class Answer(NamedTuple):
    """The word of the answer, and when it is given (NEVER: not at all)."""

    at: float
    word: str


class Service:
    """The dependency's mind; errors are drawn from `seed`."""

    def __init__(self, condition: Condition, seed: int, now: float) -> None:
        """It is in this condition from now on."""
        self._chance = random.Random(seed)
        self.change(condition, now)

    def change(self, condition: Condition, now: float) -> None:
        """Be like this from now on; calls that are being served still get the answer they were to get."""
        self.condition, self._since = condition, now
        slots = max(1, round(condition.capacity * SERVICE_S))
        self._service_s = slots / condition.capacity
        self._free = [now] * slots

    def call(self, now: float) -> Answer:
        """A call arrives."""
        how = self.condition
        if how.refuses(now - self._since):
            return Answer(now, "refused")
        if how.kind == "hanging":
            return Answer(NEVER, "")
        if how.kind == "limited":
            return Answer(now, f"limited {how.wait_s:g}")
        begins = max(now, self._free[0])
        if begins - now > QUEUE_S:
            return Answer(now, "full")
        ends = begins + self._service_s
        heapq.heapreplace(self._free, ends)
        if how.share and self._chance.random() < how.share:
            return Answer(ends, "error")
        return Answer(ends + (how.wait_s if how.kind == "slow" else 0.0), "ok")
