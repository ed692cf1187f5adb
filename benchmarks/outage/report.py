"""What is left of the runs: the file of figures (JSON) and the pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.outage.chart import chart
from benchmarks.outage.figures import Figures
from benchmarks.outage.scenarios import Scenario
from benchmarks.outage.series import buckets
from benchmarks.outage.trace import Trace


class Played(NamedTuple):
    """One run."""

    scenario: Scenario
    trace: Trace
    figures: Figures


def write_json(path: Path, about: dict[str, Any], runs: Sequence[Played]) -> None:
    """`about` tells how the runs were made."""
    path.write_text(json.dumps(about | {"runs": [_run(run) for run in runs]}, indent=1), "utf-8")


def write_plots(path: Path, title: str, runs: Sequence[Played]) -> list[Path]:
    """A picture for each scenario; if there are several, its name is added to that of the file."""
    by_name: dict[str, list[Played]] = {}
    for run in runs:
        by_name.setdefault(run.scenario.name, []).append(run)
    paths = []
    for name, some in by_name.items():
        target = path if len(by_name) == 1 else path.with_stem(f"{path.stem}-{name}")
        target.write_text(chart(some[0].scenario, [run.trace for run in some], title), "utf-8")
        paths.append(target)
    return paths


def _run(run: Played) -> dict[str, Any]:
    trace, began = run.trace, run.trace.began
    figures = asdict(run.figures)
    for name in ("idle", "fresh", "other_idle", "other", "ends"):
        figures[name] = getattr(run.figures, name)._asdict()
    return {
        "scenario": run.scenario.name,
        "contender": trace.contender,
        "figures": figures,
        "ill": trace.ill - began,
        "back": trace.back - began,
        "ended": trace.ended - began,
        "states": [[round(seen.at - began, 3), seen.circuit, seen.state] for seen in trace.states],
        "looks": [[round(tick.at - began, 3), tick.parked, tick.unserved] for tick in trace.ticks],
        "dependency": [list(bucket) for bucket in buckets(trace)],
    }
