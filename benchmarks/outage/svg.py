"""As much of SVG as a chart needs: panels with axes, in which bars, lines and bands are drawn in the units of their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

INK: Final = "#24292f"
FAINT: Final = "#d0d7de"
FONT: Final = 'font-family="system-ui, sans-serif" font-size="11"'


class Panel:
    """A rectangle at (`x`, `y`) whose axes go from 0 (log: from `low`) to `across` and `up`."""

    def __init__(
        self, x: float, y: float, width: float, height: float, *, across: float, up: float, low: float = 0.0, log: bool = False
    ) -> None:
        """Nothing is drawn yet."""
        self._box = (x, y, width, height)
        self._across, self._up, self._low, self._log = across, up, low, log
        self.marks: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies; what lies outside is moved to the edge."""
        left, top, width, height = self._box
        share = self._log_share(y) if self._log else y / self._up
        return left + width * min(1.0, max(0.0, x / self._across)), top + height * (1 - min(1.0, max(0.0, share)))

    def bars(self, bars: Iterable[tuple[float, float, float, float]], color: str) -> None:
        """Each from `x0` to `x1` and from `y0` up to `y1`."""
        for x0, x1, y0, y1 in bars:
            if y1 > y0:
                (left, bottom), (right, top) = self.at(x0, y0), self.at(x1, y1)
                path = f"M{left:.1f} {bottom:.1f}V{top:.1f}H{right:.1f}V{bottom:.1f}Z"
                self.marks.append(f'<path d="{path}" fill="{color}" shape-rendering="crispEdges"/>')

    def line(self, points: Sequence[tuple[float, float]], color: str, *, dash: str = "", width: float = 1.3) -> None:
        """A line through the points."""
        if points:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
            dashes = f' stroke-dasharray="{dash}"' if dash else ""
            self.marks.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>')

    def shade(self, x0: float, x1: float, color: str) -> None:
        """The whole height between two times."""
        _, top, _, height = self._box
        begins, ends = self.at(x0, 0)[0], self.at(x1, 0)[0]
        self.marks.append(f'<rect x="{begins:.1f}" y="{top}" width="{max(0.6, ends - begins):.1f}" height="{height}" fill="{color}"/>')

    def axes(self, name: str, ticks: Sequence[float], unit: str = "") -> None:
        """The frame, the lines at `ticks`, and what the vertical axis is."""
        left, top, width, height = self._box
        for tick in ticks:
            y = self.at(0, tick)[1]
            self.marks.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}" stroke-width="0.6"/>')
            self.marks.append(text(left - 5, y + 4, f"{tick:,g}{unit}", anchor="end"))
        self.marks.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="{FAINT}"/>')
        self.marks.append(text(left, top - 5, name))

    def times(self, step: float, name: str) -> None:
        """The horizontal axis below."""
        left, top, width, height = self._box
        for number in range(int(self._across / step) + 1):
            x = self.at(number * step, 0)[0]
            self.marks.append(text(x, top + height + 14, f"{number * step:g}", anchor="middle"))
        self.marks.append(text(left + width / 2, top + height + 29, name, anchor="middle"))

    def _log_share(self, y: float) -> float:
        return math.log(max(y, self._low) / self._low) / math.log(self._up / self._low)


def text(x: float, y: float, words: str, *, anchor: str = "start", color: str = INK, bold: bool = False) -> str:
    """Words at a place."""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT} text-anchor="{anchor}" fill="{color}"{weight}>{escape(words)}</text>'


def picture(width: float, height: float, marks: Iterable[str]) -> str:
    """The whole file, on white, so that it can be read on a dark page, too."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *marks, "</svg>", ""])


def steps(most: float, count: int = 3) -> list[float]:
    """Round numbers from 0 to about `most`."""
    if most <= 0:
        return [0.0, 1.0]
    raw = most / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [step * number for number in range(int(most / step) + 1)]
