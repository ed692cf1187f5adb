"""What happened over time, from a trace, for the picture and for the file of figures. Pure; times are seconds since the first job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.outage.figures import first_starts
from benchmarks.outage.scenarios import ON_DEPENDENCY
from benchmarks.outage.trace import Trace

FRESH_S: Final = 1.0
"""The first call of a job that was submitted within the last second is one of a fresh job; every other one is of a job that came back."""


class Load(NamedTuple):
    """Calls a second in a bin that begins at `at`: of fresh jobs, of those that came back, and those of either that were refused."""

    at: float
    fresh: float
    returned: float
    refused: float


class Bucket(NamedTuple):
    """A tenth of a second of the dependency: calls of a type that came, were served, were refused, and were under way at its end."""

    at: float
    kind: str
    came: int
    served: int
    refused: int
    in_flight: int


class Wait(NamedTuple):
    """Seconds from submit to start of the jobs submitted in a bin."""

    at: float
    p50: float
    worst: float


def load(trace: Trace, step_s: float = 0.5) -> list[Load]:
    """The load on the dependency."""
    submitted = {submit.number: submit.at for submit in trace.submits}
    counts = [[0, 0, 0] for _ in _bins(trace, step_s)]
    seen: set[int] = set()
    for call in trace.calls:
        index = int((call.came - trace.began) / step_s)
        if call.kind in ON_DEPENDENCY and 0 <= index < len(counts):
            is_fresh = call.number not in seen and call.came - submitted.get(call.number, 0.0) < FRESH_S
            counts[index][2 if call.is_refused else 0 if is_fresh else 1] += 1
        seen.add(call.number)
    return [Load(index * step_s, *(count / step_s for count in three)) for index, three in enumerate(counts)]


def buckets(trace: Trace, step_s: float = 0.1) -> list[Bucket]:
    """The dependency's book, a tenth of a second at a time; empty ones are left out."""
    counts: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for call in trace.calls:
        came = int((call.came - trace.began) / step_s)
        ended = int(((call.ended or trace.ended) - trace.began) / step_s)
        counts[call.kind, came][0] += 1
        counts[call.kind, ended][1] += call.word == "ok"
        counts[call.kind, ended][2] += call.is_refused
        for index in range(came, ended):
            counts[call.kind, index][3] += 1
    return [Bucket(round(index * step_s, 3), kind, *four) for (kind, index), four in sorted(counts.items(), key=lambda item: item[0][::-1])]


def waits(trace: Trace, kinds: Sequence[str] = ON_DEPENDENCY, step_s: float = 0.5) -> list[Wait]:
    """How long jobs waited for their first start, by the time of their submission."""
    starts = first_starts(trace.starts)
    by_bin: defaultdict[int, list[float]] = defaultdict(list)
    for submit in trace.submits:
        if submit.kind in kinds:
            by_bin[int((submit.at - trace.began) / step_s)].append(starts.get(submit.number, trace.ended) - submit.at)
    return [Wait(index * step_s, sorted(some)[len(some) // 2], max(some)) for index, some in sorted(by_bin.items())]


def bands(trace: Trace) -> list[tuple[float, float, str]]:
    """From when to when the worst of the circuits was in which state."""
    rank = ("CLOSED", "HALF_OPEN", "OPEN")
    now: dict[str, str] = {}
    found: list[tuple[float, float, str]] = []
    for seen in trace.states:
        now[seen.circuit] = seen.state if seen.state in rank else "OPEN"
        worst = max(now.values(), key=rank.index)
        at = max(0.0, seen.at - trace.began)
        if found:
            found[-1] = (found[-1][0], at, found[-1][2])
        if not found or found[-1][2] != worst:
            found.append((at, at, worst))
    if found:
        found[-1] = (found[-1][0], trace.ended - trace.began, found[-1][2])
    return found


def _bins(trace: Trace, step_s: float) -> range:
    return range(max(1, int((trace.ended - trace.began) / step_s)))
