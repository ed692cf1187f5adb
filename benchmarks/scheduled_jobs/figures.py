"""The figures, computed from what was seen. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple, Self


class Start(NamedTuple):
    """A run began: job `number` of a batch, which was due at `run_at` (ms; 0: at once), at `at` (microseconds)."""

    batch: str
    number: int
    run_at: int
    at: int

    @property
    def line(self) -> bytes:
        """As one line of a file."""
        return f"{self.batch} {self.number} {self.run_at} {self.at}\n".encode()

    @classmethod
    def read(cls, text: str) -> list[Self]:
        """The lines of a file; one that is not written out yet is left for later."""
        return [
            cls(batch, int(number), int(run_at), int(at))
            for batch, number, run_at, at in (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n"))
        ]


class Lateness(NamedTuple):
    """From the time at which jobs were due to the start of their run, ms. `early` began before; `again` are second runs of one job."""

    jobs: int
    p50: float
    p99: float
    worst: float
    early: int
    again: int

    def __str__(self) -> str:
        """For people."""
        odd = f", {self.early} EARLY" * bool(self.early) + f", {self.again} AGAIN" * bool(self.again)
        return f"{self.jobs:,} jobs: {self.p50:.1f} ms p50, {self.p99:.1f} ms p99, {self.worst:.1f} ms at most{odd}"


def lateness(starts: Sequence[Start]) -> Lateness:
    """Of the first run of each job; ValueError without any."""
    first: dict[tuple[str, int], Start] = {}
    for start in sorted(starts, key=lambda one: one.at):
        first.setdefault((start.batch, start.number), start)
    late = sorted((one.at - one.run_at * 1000) / 1000 for one in first.values())
    return Lateness(
        jobs=len(late),
        p50=statistics.median(late),
        p99=percentile(late, 99),
        worst=late[-1],
        early=sum(ms < 0 for ms in late),
        again=len(starts) - len(first),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent of these sorted ones lie."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def took_s(starts: Sequence[Start], since: int) -> float:
    """Seconds from `since` (microseconds) until all had begun."""
    return (max(start.at for start in starts) - since) / 1e6


def times(these: Sequence[float], those: Sequence[float]) -> str:
    """The ratio of two series that were measured in turns: its median, and the range of the single turns."""
    ratios = sorted(this / that for this, that in zip(these, those, strict=True))
    return f"{statistics.median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"
