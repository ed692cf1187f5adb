"""The figures of one run, computed from what was seen. Pure.

The letters are those of the table: (a) runs in vain, (b) time to closed, (c) what the return does to the dependency, (d) what fresh jobs
and others notice, (e) what became of all jobs, (f) how much of what was possible was done.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks.outage.circuits import closed_after, first_open, openings, probes_between
from benchmarks.outage.possible import Possible, possible
from benchmarks.outage.scenarios import ON_DEPENDENCY, Scenario
from benchmarks.outage.trace import Call, Ends, Start, Submit, Trace

NOTICE_S: Final = 0.05
"""A circuit that opens is seen a little later by us."""
FEW: Final = 20
"""Of fewer jobs no rate is told."""


class Spread(NamedTuple):
    """Milliseconds from submit to start; None if there were no such jobs."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What the table shows. Seconds are after the event that the comment names; None is "never" or "does not apply"."""

    opened_s: float | None  # a circuit opened; after the illness began
    dead_calls: int | None  # a: calls that reached the dead dependency
    wasted: int | None  # a: of these, after the circuit opened, beyond one for each probe
    closed_s: float | None  # b: all circuits closed; after the return
    healed_s: float | None  # everything done and closed; after the return
    peak: float  # c: most calls in a second, divided by the capacity
    refused: float  # c: share of the calls that were refused
    reopened: int  # c: how often a closed circuit opened
    drain: float | None  # c: rate at which those that waited were served, divided by the capacity that fresh ones leave
    idle: Spread  # d: before anything happened
    fresh: Spread  # d: jobs submitted during the release (or the illness)
    other_idle: Spread  # d: the type that does not use the dependency
    other: Spread
    ends: Ends  # e
    duplicates: int  # e: jobs that were served more than once
    goodput: float | None  # f
    watched_s: float  # how long was waited for healing


def figures(scenario: Scenario, trace: Trace, cooldown_s: float) -> Figures:
    """All of them; goodput grants two cooldowns."""
    calls = [call for call in trace.calls if call.kind in ON_DEPENDENCY]
    submits = [submit for submit in trace.submits if submit.kind in ON_DEPENDENCY]
    others = [submit for submit in trace.submits if submit.kind == "sms"]
    opened, closed = first_open(trace.states, trace.ill), closed_after(trace.states, trace.back)
    begins, ends = (trace.ill, trace.back) if scenario.during else (trace.back, trace.ended)
    window = [call for call in calls if begins <= call.came < ends]
    release = (begins, ends) if scenario.during else (closed or trace.back, trace.healed or ends)
    served = first_served(calls)
    starts = first_starts(trace.starts)
    could = possible(scenario, trace, [submit.at for submit in submits], 2 * cooldown_s)
    return Figures(
        opened_s=opened - trace.ill if opened is not None else None,
        dead_calls=sum(trace.ill <= call.came < trace.back for call in calls) if scenario.is_dead else None,
        wasted=wasted(trace, calls, opened) if scenario.is_dead and opened is not None else None,
        closed_s=closed - trace.back if closed is not None else None,
        healed_s=trace.healed - trace.back if trace.healed is not None else None,
        peak=most_in_a_second([call.came for call in window]) / (scenario.ill if scenario.during else scenario).capacity,
        refused=sum(call.is_refused for call in window) / len(window) if window else 0.0,
        reopened=openings(trace.states, begins, ends),
        drain=None if scenario.during else drain(submits, served, closed or trace.back, trace.ended, scenario.capacity - scenario.load),
        idle=spread(submits, starts, (trace.began + 0.5, trace.ill), trace.ended),
        fresh=spread(submits, starts, release, trace.ended),
        other_idle=spread(others, starts, (trace.began + 0.5, trace.ill), trace.ended),
        other=spread(others, starts, (trace.ill, trace.ended), trace.ended),
        ends=trace.ends,
        duplicates=sum(count > 1 for count in Counter(call.number for call in calls if call.word == "ok").values()),
        goodput=goodput(could, served.values()),
        watched_s=trace.ended - trace.back,
    )


def wasted(trace: Trace, calls: Iterable[Call], opened: float) -> int:
    """Calls after the circuit opened, beyond one for each probe; those that came in the moment before we saw it are not counted."""
    after = sum(opened + NOTICE_S <= call.came < trace.back for call in calls)
    return max(0, after - probes_between(trace.states, opened, trace.back))


def most_in_a_second(times: Sequence[float]) -> int:
    """The most of these ascending times that lie within any second."""
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def first_served(calls: Iterable[Call]) -> Mapping[int, float]:
    """When each job was first served, by its number."""
    served: dict[int, float] = {}
    for call in calls:
        if call.word == "ok" and call.ended is not None:
            served[call.number] = min(call.ended, served.get(call.number, call.ended))
    return served


def first_starts(starts: Iterable[Start]) -> Mapping[int, float]:
    """When each job first began to run, by its number."""
    first: dict[int, float] = {}
    for start in starts:
        first[start.number] = min(start.at, first.get(start.number, start.at))
    return first


def drain(submits: Iterable[Submit], served: Mapping[int, float], since: float, ended: float, spare: float) -> float | None:
    """The rate at which 95 % of the jobs that waited at `since` were served, divided by the spare capacity; None if few waited."""
    waited = [served.get(submit.number, ended) for submit in submits if submit.at < since and served.get(submit.number, ended) > since]
    if len(waited) < FEW or spare <= 0:
        return None
    done = sorted(time for time in waited if time < ended)
    wanted = int(0.95 * len(waited))
    if len(done) < wanted:
        return len(done) / (ended - since) / spare
    return wanted / max(done[wanted - 1] - since, 0.001) / spare


def spread(submits: Iterable[Submit], starts: Mapping[int, float], window: tuple[float, float], ended: float) -> Spread:
    """Of the jobs submitted in that stretch; one that never started has waited until the end."""
    waits = sorted(starts.get(submit.number, ended) - submit.at for submit in submits if window[0] <= submit.at < window[1])
    if not waits:
        return Spread(None, None)
    return Spread(*(1_000 * waits[min(len(waits) - 1, int(len(waits) * share))] for share in (0.5, 0.99)))


def goodput(could: Possible, served: Iterable[float]) -> float | None:
    """Jobs served in the stretch, divided by what was possible; None if that is little."""
    if could.jobs < FEW:
        return None
    times = sorted(served)
    return (bisect_left(times, could.ends) - bisect_left(times, could.begins)) / could.jobs
