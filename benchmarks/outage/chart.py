"""The picture of a scenario: a column for each contender, with load, circuit, waiting jobs and the latency of fresh ones over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.outage.scenarios import Scenario
from benchmarks.outage.series import bands, load, waits
from benchmarks.outage.svg import Panel, picture, steps, text
from benchmarks.outage.trace import Trace

WIDTH: Final = 400.0
GAP: Final = 64.0
TOP: Final = 110.0
LOAD_H, BAND_H, WAITING_H, LATENCY_H = 150.0, 14.0, 90.0, 90.0
BELOW: Final = 34.0
FRESH, RETURNED, REFUSED = "#54aeff", "#0550ae", "#cf222e"
ILL: Final = "#fff1e5"
STATES: Final = {"CLOSED": "#4ac26b", "HALF_OPEN": "#eac54f", "OPEN": "#82071e"}
LATENCIES: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
STEP_S: Final = 0.5
MOST_S: Final = 120.0
"""Longer runs have longer bins, so that each can be seen."""


class _Scale(NamedTuple):
    """The ends of the axes, the same for all columns."""

    across: float
    most: float
    waiting: float
    step_s: float


def chart(scenario: Scenario, traces: Sequence[Trace], title: str) -> str:
    """The file's text."""
    across = max(trace.ended - trace.began for trace in traces)
    step_s = STEP_S * math.ceil(across / MOST_S)
    loads = [load(trace, step_s) for trace in traces]
    most = min(max((one.fresh + one.returned + one.refused for some in loads for one in some), default=1.0), 6 * scenario.capacity)
    waiting = max((tick.unserved for trace in traces for tick in trace.ticks), default=1)
    marks = [text(GAP, 18, f"{scenario.name}: {scenario.about}", bold=True), text(GAP, 34, title), *_legend()]
    for index, trace in enumerate(traces):
        left = GAP + index * (WIDTH + GAP)
        marks.append(text(left, TOP - 22, trace.contender, bold=True))
        marks += _column(scenario, trace, left, _Scale(across, max(most, 1.3 * scenario.capacity), max(waiting, 10), step_s))
    height = TOP + LOAD_H + BAND_H + WAITING_H + LATENCY_H + 3 * BELOW + 24
    return picture(GAP + len(traces) * (WIDTH + GAP), height, marks)


def _column(scenario: Scenario, trace: Trace, left: float, scale: _Scale) -> list[str]:
    across, most, waiting, step_s = scale
    y = TOP
    calls = Panel(left, y, WIDTH, LOAD_H, across=across, up=most)
    y += LOAD_H + 4
    circuit = Panel(left, y, WIDTH, BAND_H, across=across, up=1)
    y += BAND_H + BELOW
    jobs = Panel(left, y, WIDTH, WAITING_H, across=across, up=waiting)
    y += WAITING_H + BELOW
    latency = Panel(left, y, WIDTH, LATENCY_H, across=across, up=LATENCIES[-1], low=LATENCIES[0], log=True)
    for panel in (calls, jobs, latency):
        panel.shade(trace.ill - trace.began, trace.back - trace.began, ILL)
    _draw_load(calls, scenario, trace, step_s)
    for begins, ends, state in bands(trace):
        circuit.shade(begins, ends, STATES[state])
    jobs.line([(tick.at - trace.began, tick.unserved) for tick in trace.ticks], RETURNED)
    jobs.line([(tick.at - trace.began, tick.parked) for tick in trace.ticks if tick.parked is not None], FRESH, dash="3 2")
    found = waits(trace, step_s=step_s)
    latency.line([(wait.at, wait.worst) for wait in found], FRESH, width=0.8)
    latency.line([(wait.at, wait.p50) for wait in found], RETURNED)
    calls.axes("calls a second on the dependency (dashed: its capacity), circuit below", steps(most, 4))
    jobs.axes("jobs not served yet (dashed: parked)", steps(waiting))
    latency.axes("submit to first start by time of submission: median, worst", LATENCIES, " s")
    latency.times(steps(across, 6)[1], "seconds")
    return [mark for panel in (calls, circuit, jobs, latency) for mark in panel.marks]


def _draw_load(panel: Panel, scenario: Scenario, trace: Trace, step_s: float) -> None:
    bins = load(trace, step_s)
    for color, low, high in ((FRESH, 0, 1), (RETURNED, 1, 2), (REFUSED, 2, 3)):
        panel.bars(((one.at, one.at + step_s, sum(one[1 : low + 1]), sum(one[1 : high + 1])) for one in bins), color)
    ill, back = trace.ill - trace.began, trace.back - trace.began
    sick, well = scenario.ill.serves(0.0) if scenario.ill.kind != "flapping" else scenario.capacity, scenario.capacity
    panel.line([(0, well), (ill, well), (ill, sick), (back, sick), (back, well), (trace.ended - trace.began, well)], "#24292f", dash="5 3")


def _legend() -> list[str]:
    rows = (
        ((FRESH, "calls of fresh jobs"), (RETURNED, "released or retried ones"), (REFUSED, "refused")),
        ((ILL, "dependency ill"), (STATES["CLOSED"], "circuit closed"), (STATES["HALF_OPEN"], "half-open"), (STATES["OPEN"], "open")),
    )
    marks = []
    for row, entries in enumerate(rows):
        x, y = GAP, 52 + 16 * row
        for color, words in entries:
            marks.append(f'<rect x="{x:.0f}" y="{y - 9}" width="10" height="10" fill="{color}"/>')
            marks.append(text(x + 14, y, words))
            x += 34 + 6.2 * len(words)
    return marks
