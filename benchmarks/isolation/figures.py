"""The figures of a row, computed from what was seen, and whether they are as wanted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.isolation.rows import LOW_SHARE, Row
from benchmarks.isolation.trace import Trace

NOTICE_S: Final = 1.0
"""A system may take so long to notice a flood: p50 and p99 are of the jobs submitted later, the worst is of all."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds from submission to start; a job that never started has waited until nobody looked any more. None does not apply."""

    jobs: int
    p50: float | None = None
    p99: float | None = None
    worst: float | None = None
    never: int = 0
    share: float | None = None
    flooded_s: float = 0.0
    """How long the floods took, or were watched."""


def figures(row: Row, trace: Trace) -> Figures:
    """Of one run."""
    if row.share:
        return _share(row, trace)
    first = first_starts(trace)
    lasted = trace.over - trace.flooded
    waits = [(submit.at, 1_000 * (first.get(submit.number, trace.ended) - submit.at)) for submit in trace.submits]
    noticed = trace.flooded + (min(NOTICE_S, lasted / 2) if row.floods else 0)
    late = sorted(wait for at, wait in waits if noticed <= at <= trace.over)
    every = [wait for at, wait in waits if trace.flooded <= at <= trace.over]
    never = sum(submit.number not in first for submit in trace.submits)
    return Figures(
        len(late), quantile(late, 0.5), quantile(late, 0.99), max(every, default=None), never, flooded_s=lasted if row.floods else 0.0
    )


def first_starts(trace: Trace) -> dict[int, float]:
    """When each job first began to run, by its number."""
    first: dict[int, float] = {}
    for start in trace.starts:
        first[start.number] = min(start.at, first.get(start.number, start.at))
    return first


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The value that so large a share does not exceed; None of nothing."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else None


def _share(row: Row, trace: Trace) -> Figures:
    """The trickle's share of the starts, from the moment the flood was noticed."""
    begins = trace.flooded + min(NOTICE_S, (trace.over - trace.flooded) / 2)
    kinds = [start.kind for start in trace.starts if begins <= start.at <= trace.over]
    share = kinds.count(row.trickle.kind) / len(kinds) if kinds else None
    return Figures(len(kinds), share=share, flooded_s=trace.over - trace.flooded)


def wanted(row: Row, idle: Figures | None) -> str:
    """In words; empty if nothing is wanted of this row, or if `idle` would be needed."""
    if row.share:
        return f"share >= {LOW_SHARE:.0%}"
    bound = p99_bound(row, idle)
    if bound is None:
        return ""
    return f"p99 <= {bound:.0f}" + (f", worst < {row.worst_ms:.0f}" if row.worst_ms else "")


def is_as_wanted(row: Row, shown: Figures, idle: Figures | None) -> bool | None:
    """None if nothing is wanted or nothing was seen."""
    if row.share:
        return None if shown.share is None else shown.share >= LOW_SHARE
    bound = p99_bound(row, idle)
    if bound is None or shown.p99 is None or shown.worst is None:
        return None
    return not shown.never and shown.p99 <= bound and (row.worst_ms is None or shown.worst < row.worst_ms)


def p99_bound(row: Row, idle: Figures | None) -> float | None:
    """Milliseconds."""
    if row.idle_times is None or idle is None or idle.p99 is None:
        return None
    return row.idle_times * idle.p99 + row.plus_ms
