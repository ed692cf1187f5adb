"""The figures as one table."""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.table import Table

from benchmarks.isolation.figures import Figures, is_as_wanted, wanted
from benchmarks.isolation.rows import Row

COLUMNS: Final = ("row", "who", "jobs", "p50 ms", "p99 ms", "worst ms", "share", "wanted", "as wanted", "flood s", "")
LEGEND: Final = (
    "From before the submission to the first line of the handler. p50 and p99 are of the jobs that were submitted 1 s after the flood "
    "began or later and before it was through; worst is of all. What is wanted refers to the same system when it is idle. "
    "share: of all starts while every lane had jobs."
)


class Played(NamedTuple):
    """One row of one system."""

    row: Row
    who: str
    figures: Figures
    note: str


def table(played: list[Played], title: str) -> Table:
    """A line for each."""
    shown = Table(title=title, caption=LEGEND, caption_justify="left")
    for number, column in enumerate(COLUMNS):
        shown.add_column(column, justify="right" if 2 <= number <= 6 or number == 9 else "left")
    idle = {one.who: one.figures for one in played if one.row.name == "idle"}
    before = ""
    for one in played:
        if before not in {"", one.row.name}:
            shown.add_section()
        shown.add_row("" if one.row.name == before else one.row.about, one.who, *cells(one, idle.get(one.who)))
        before = one.row.name
    return shown


def cells(one: Played, idle: Figures | None) -> list[str]:
    """As text."""
    told, verdict = one.figures, is_as_wanted(one.row, one.figures, idle)
    notes = [one.note, f"{told.never} never started" if told.never else ""]
    return [
        str(told.jobs),
        *(_number(value) for value in (told.p50, told.p99, told.worst)),
        "-" if told.share is None else f"{told.share:.1%}",
        wanted(one.row, idle) or "-",
        "-" if verdict is None else "yes" if verdict else "no",
        f"{told.flooded_s:.1f}" if told.flooded_s else "-",
        ", ".join(note for note in notes if note),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"
