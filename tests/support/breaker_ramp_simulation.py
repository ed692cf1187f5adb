"""A ramp before a simulated dependency: steady fresh jobs, and a backlog that is released as permits allow. Pure; time is simulated."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sickbay.breaker import ramp as ramps
from sickbay.breaker.durations import WEIGHT, UsualDurations, is_slow
from sickbay.breaker.ramp_state import Ramp
from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.outcome import SUCCESS

ROUND_S: Final = 0.1
QUEUE_S: Final = 0.1
KEY: Final = BreakerKey("email")
PERMIT: Final = Permit(KEY, PermitKind.RAMP, 1, "job")


@dataclass
class Dependency:
    """Serves `capacity` calls a second, each for `run_s`; of those served a `share` fails.

    It lets calls wait for `queue_s` and refuses what would wait longer. A caller waits for `timeout_s`; then the call was served in vain.
    With a `spread` runs differ in length: that is the sigma of a log-normal distribution around `run_s`.
    """

    capacity: float
    run_s: float = 0.0
    share: float = 0.0
    queue_s: float = QUEUE_S
    timeout_s: float = 3_600.0
    spread: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    free_at: float = 0.0

    def call(self, now: float) -> tuple[float, str]:
        """When it answers what."""
        begins = max(now, self.free_at)
        if begins - now > self.queue_s:
            return now + self.run_s, "refused"
        self.free_at = begins + 1 / self.capacity
        ends = self.free_at + self.run_s * (self.chance.lognormvariate(0, self.spread) if self.spread else 1)
        if ends - now > self.timeout_s:
            return now + self.timeout_s, "refused"
        return ends, "failed" if self.chance.random() < self.share else "ok"


class Recovery:
    """What happens after the breaker has closed at time 0."""

    def __init__(
        self,
        dependency: Dependency | Counted,
        *,
        load: float,
        backlog: int,
        lasts_s: float,
        healers: int = 1,
        arrivals: int = 0,
        measures: bool = False,
        usual_s: float = 0.0,
        begins: float = 0.0,
        runs: bool = True,
    ) -> None:
        """Run it for so long; `load` is in jobs a second. `arrivals` is what a healer tells of it; a breaker that was closed `measures`.

        The first job comes at `begins`; unless it `runs` by itself, `together` lets it.

        Before the outage runs took `usual_s`; 0 if nobody knows, and then how long they take is no sign.
        """
        self._arrivals = arrivals
        self._knows, self._durations = usual_s > 0, UsualDurations()
        for _ in range(WEIGHT if self._knows else 0):
            self._durations.record(PERMIT, SUCCESS, round(1_000 * usual_s), lambda: -60_000)
        self.took: list[float] = []
        self.counts = dict.fromkeys(("ok", "failed", "refused"), 0)
        self.peak = 0
        """Most calls in a second."""
        self.drained_s: float | None = None
        self.ended_s: float | None = None
        self.fresh_parked = self.released = self.released_in_vain = 0
        self._dependency = dependency
        self._measures, self._lately = measures, deque[bool](maxlen=32)
        self._ramp: Ramp | None = ramps.measure(0) if measures else ramps.begin(0)
        self._parked = backlog
        self._recent: deque[float] = deque()
        self._number = 0
        self._due: list[tuple[float, int, Any, tuple[Any, ...]]] = []
        at = begins
        while load and at < lasts_s:
            self._at(at, self._arrive, True)
            at += 1 / load
        for healer in range(healers):
            self._at(healer * 0.001, self._release)
        if runs:
            run_until(lasts_s, [self])

    @property
    def next_at(self) -> float:
        """When something happens next."""
        return self._due[0][0] if self._due else float("inf")

    def step(self) -> None:
        """Let it happen."""
        now, _, what, arguments = heapq.heappop(self._due)
        what(now, *arguments)

    @property
    def refused_share(self) -> float:
        """Of all calls."""
        return self.counts["refused"] / max(1, sum(self.counts.values()))

    def _at(self, at: float, what: Any, *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._due, (at, self._number, what, arguments))

    def _arrive(self, now: float, is_fresh: bool) -> None:
        granted = True
        if self._ramp is not None:
            self._ramp, granted = ramps.take(self._ramp, int(now * 1_000), released=not is_fresh)
            self._note_end(now)
        if not granted:
            self._parked += 1
            self.fresh_parked += is_fresh
            self.released_in_vain += not is_fresh
            return
        self._recent.append(now)
        while self._recent[0] <= now - 1:
            self._recent.popleft()
        self.peak = max(self.peak, len(self._recent))
        ends, word = self._dependency.call(now)
        self._at(ends, self._end, word, self._ramp.cut_at if self._ramp else -1, now)

    def _release(self, now: float) -> None:
        number = self._parked
        if self._ramp is not None and self._parked:
            self._ramp, number = ramps.reserve(self._ramp, int(now * 1_000), self._parked, self._arrivals)
        self.released += number
        for _ in range(number):
            self._parked -= 1
            self._at(now + 0.01, self._arrive, False)
        if not self._parked and self.drained_s is None:
            self.drained_s = now
        self._at(now + ROUND_S, self._release)

    def _end(self, now: float, word: str, cut_at: int, began: float) -> None:
        self.counts[word] += 1
        slow = word == "ok" and self._is_slow(now, now - began)
        if word != "ok":
            self._at(now + 5, self._arrive, False)  # its retry
        self._lately.append(word != "ok")
        if self._ramp is None and self._measures and word == "ok" and 10 * sum(self._lately) >= len(self._lately) >= 20:
            self._ramp, self.ended_s = ramps.measure(int(now * 1_000)), None
        if self._ramp is not None and self._ramp.cut_at == cut_at:
            at = int(now * 1_000)
            self._ramp = ramps.succeed(self._ramp, at, slow=slow) if word == "ok" else ramps.fail(self._ramp, at)
            self._note_end(now)

    def _is_slow(self, now: float, took_s: float) -> bool:
        self.took.append(took_s)
        took_ms = round(1_000 * took_s)
        if self._knows:
            self._durations.record(PERMIT, SUCCESS, took_ms, lambda: int(now * 1_000))
        return is_slow(took_ms, self._durations.usual_ms(KEY))

    def _note_end(self, now: float) -> None:
        if self._ramp is None and self.ended_s is None:
            self.ended_s = now


def run_until(lasts_s: float, recoveries: Sequence[Recovery]) -> None:
    """Let everything happen in the order of time."""
    while (first := min(recoveries, key=lambda one: one.next_at)).next_at < lasts_s:
        first.step()


@dataclass
class Counted:
    """A dependency that counts the calls of all."""

    dependency: Dependency
    peak: int = 0
    """Most calls in a second."""
    calls: int = 0
    refused: int = 0
    _recent: deque[float] = field(default_factory=deque)

    def call(self, now: float) -> tuple[float, str]:
        """When it answers what."""
        self._recent.append(now)
        while self._recent[0] <= now - 1:
            self._recent.popleft()
        self.peak = max(self.peak, len(self._recent))
        answer = self.dependency.call(now)
        self.calls += 1
        self.refused += answer[1] == "refused"
        return answer


def together(dependency: Dependency, number: int, chance: random.Random, *, load: float, backlog: int, lasts_s: float) -> Counted:
    """Several breakers with one dependency, each with its part of load and backlog, which begins at some moment."""
    counted = Counted(dependency)
    part = load / number
    each: dict[str, Any] = {"load": part, "backlog": backlog // number, "lasts_s": lasts_s, "arrivals": round(1_000 * part)}
    usual_s = max(0.02, dependency.run_s)
    run_until(lasts_s, [Recovery(counted, **each, usual_s=usual_s, begins=chance.random() / part, runs=False) for _ in range(number)])
    return counted
