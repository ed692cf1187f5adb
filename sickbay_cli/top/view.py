"""The layout of a frame of `sickbay top` for a terminal of any size. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.incident_pb2 import Incident
from sickbay_cli.breaker_tables import name_of, situation
from sickbay_cli.durations import clock, span
from sickbay_cli.format import breaker_state, join_nonempty, ms, other_tenant
from sickbay_cli.incident_tables import INCIDENTS, incident_row
from sickbay_cli.output import Cell, Column, grid, plain, text
from sickbay_cli.status import STATE_COLOURS
from sickbay_cli.top.frame import SHUT, BreakerRow, Change, Frame, QueueRow, Rates, ReleaseRow, is_unusual

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_BREAKERS: Final = (
    Column("BREAKER"),
    Column("STATE"),
    Column("SINCE", least=44, right=True),
    Column("PROBE", least=52, right=True),
    Column("LIMIT", least=52, right=True),
    Column("PARKED", least=36, right=True),
    Column("OLDEST", least=96, right=True),
    Column("WHY", least=64, loose=True),
)
_QUEUES: Final = (
    Column("QUEUE"),
    Column("MESSAGES", right=True),
    Column("TREND", right=True),
    Column("CONSUMERS", least=44, right=True),
)
_RELEASES: Final = (
    Column("RELEASING"),
    Column("WAITING", right=True),
    Column("RELEASED", right=True),
    Column("LIMIT", least=50, right=True),
    Column("ENDS", least=60, right=True),
)
_TENANTS: Final = (Column("TENANT"), Column("RUNNING", right=True))
_INCIDENTS: Final = (Column("INCIDENT", right=True), *INCIDENTS[1:])
_CHANGES: Final = (Column("CHANGED"), Column("BREAKER"), Column("STATE"), Column("WHY", least=50, loose=True))
_NAME_PART: Final = 4
"""A name takes a fourth of the line at most, but never less than this many columns:"""
_NAME_LEAST: Final = 12
_SEVERAL, _FEW = 5, 2
"""So many unusual breakers, and so many rows of the parts below, have lines before anything has more."""
_PROBLEMS: Final = 3


@dataclass(frozen=True, slots=True)
class Size:
    """The lines and columns to fill; `lines` is None for output without an end, such as a pipe."""

    columns: int
    lines: int | None = None


@dataclass(frozen=True, slots=True)
class _Panel:
    """A table, its rows in the order of their importance, and the most rows it takes if others need the place."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    modest: int


def lay_out(frame: Frame, size: Size, hint: str = "") -> RenderableType:
    """The frame as lines, never more than fit; `hint` says which keys do something."""
    from rich.console import Group  # noqa: PLC0415 - only commands that print for people pay for rich

    head = _head(frame, hint, size)
    panels = _panels(frame, size)
    room = None if size.lines is None else size.lines - len(head)
    lines: list[RenderableType] = [*head]
    for panel, shown in zip(panels, _shares(panels, room), strict=True):
        if shown:
            lines.append(_line(size, *_rest(panel, shown)))
            lines.append(grid(*_used(panel.columns, panel.rows[:shown]), size.columns))
    return Group(*lines[: size.lines])


def _rest(panel: _Panel, shown: int) -> Sequence[Cell]:
    """The line above a table: empty, unless some of its rows have no place."""
    hidden = len(panel.rows) - shown
    return [(f"{hidden:,} more", "dim")] if hidden and panel.columns is _BREAKERS else []


def _used(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> tuple[Sequence[Column], Sequence[Sequence[Cell]]]:
    """Without the columns in which no row has anything, such as limits while nothing is throttled."""
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    return [columns[index] for index in used], [[_flat(row[index]) for index in used] for row in rows]


def _shares(panels: Sequence[_Panel], room: int | None) -> Sequence[int]:
    """How many rows each panel gets: first a modest number each in their order, then what is left, in the same order."""
    if room is None:
        return [len(panel.rows) for panel in panels]
    shares = [0] * len(panels)
    for index, panel in enumerate(panels):
        wanted = min(panel.modest, len(panel.rows))
        if wanted and room > 2:  # noqa: PLR2004 - the line above it, and its titles
            shares[index] = min(wanted, room - 2)
            room -= shares[index] + 2
    for index, panel in enumerate(panels):
        if shares[index]:
            more = min(len(panel.rows) - shares[index], room)
            shares[index] += more
            room -= more
    return shares


def _head(frame: Frame, hint: str, size: Size) -> list[Text]:
    sentences = [*(f"{one.endpoint.title}: {remark}" for one in frame.health for remark in one.remarks)]
    if frame.problem and not any(frame.problem in sentence for sentence in sentences):
        sentences.append(f"control plane: {frame.problem}")
    head = [_services(frame, hint, size)]
    if frame.problem:
        shown = f"the numbers below are those of {clock(frame.as_of)}" if frame.as_of else "there are no numbers yet"
        head.append(_line(size, (shown, "yellow")))
    head.extend(_line(size, (sentence, "red")) for sentence in sentences[:_PROBLEMS])
    if frame.jobs:
        head.append(_line(size, ("jobs/s", "bold"), *_rates(frame.rates)))
        told = [f"{number:,} {state.lower()}" for state, number in frame.jobs.items() if number or state != "SCHEDULED"]
        head.append(_line(size, ("jobs  ", "bold"), *told))
    return head


def _rates(rates: Rates) -> Sequence[str]:
    """Those of the states only if they change."""
    flows = (("submitted", rates.submitted), ("succeeded", rates.succeeded), ("failed", rates.failed))
    states = (("retrying", rates.retrying), ("parked", rates.parked), ("quarantined", rates.quarantined))
    changes = [(title, _signed(number)) for title, number in states]
    return [
        *(f"{_number(number)} {title}" for title, number in flows),
        *(f"{shown} {title}" for title, shown in changes if shown not in {"0.0", "-"}),
    ]


def _services(frame: Frame, hint: str, size: Size) -> Text:
    from rich.text import Text  # noqa: PLC0415 - only commands that print for people pay for rich

    states = [Text(" ").join([text(one.endpoint.title), text((one.state, STATE_COLOURS[one.state]))]) for one in frame.health]
    head = [text(("sickbay top", "bold")), text(clock(frame.time)), text((hint, "dim")), *states]
    return _cut(Text("  ").join(part for part in head if part.plain), size)


def _trend(change: float | None) -> str:
    """` (+1.2/s)`; empty if nothing changes, or if that is unknown."""
    shown = _signed(change)
    return "" if shown in {"0.0", "-"} else f" ({shown}/s)"


def _panels(frame: Frame, size: Size) -> Sequence[_Panel]:
    unusual = sum(is_unusual(row.breaker) for row in frame.breakers)
    return (
        _Panel(_BREAKERS, [_breaker(row, frame.time, size) for row in frame.breakers], max(_FEW, min(unusual, _SEVERAL))),
        _Panel(_QUEUES, [_queue(row) for row in frame.queues], len(frame.queues)),
        _Panel(_RELEASES, [_release(row, size) for row in frame.releases], _FEW),
        _Panel(_TENANTS, [[_short(tenant, size), f"{slots:,}"] for tenant, slots in frame.tenants], _FEW),
        _Panel(_INCIDENTS, [_incident(one, frame.time, size) for one in frame.incidents], _FEW),
        _Panel(_CHANGES, [_change(change, size) for change in frame.changes], _FEW),
    )


def _breaker(row: BreakerRow, now: int, size: Size) -> Sequence[Cell]:
    breaker = row.breaker
    return [
        _name(breaker, size),
        breaker_state(breaker.state),
        _age(row.since, now),
        _probe(breaker, now),
        _limit(breaker.admitted_per_second) if breaker.recovering else "",
        f"{row.parked.count:,}" if row.parked and row.parked.count else "",
        _age(row.parked.oldest, now) if row.parked else "",
        _reason(breaker, now),
    ]


def _probe(breaker: Breaker, now: int) -> Cell:
    if breaker.state == Breaker.STATE_HALF_OPEN:
        return ("runs", "yellow")
    if breaker.state != Breaker.STATE_OPEN:
        return ""
    probe = ms(breaker, "probe_time")
    return ("due", "yellow") if breaker.cooldown_elapsed or probe <= now else _age(now, probe)


def _reason(breaker: Breaker, now: int) -> str:
    if breaker.recovering:  # its limit has a column
        row = f"{breaker.failures_in_row} x {breaker.failures_in_row_code} in a row" if breaker.failures_in_row else ""
        return join_nonempty(", ", "lets jobs in gradually", row)
    if breaker.state != Breaker.STATE_OPEN:
        return situation(breaker, now)
    cause = f"{breaker.reason_count} x {breaker.reason_code}" if breaker.reason_code else ""
    return join_nonempty("; ", join_nonempty(": ", cause, breaker.reason_message), "Redis unavailable" if breaker.degraded else "")


def _queue(row: QueueRow) -> Sequence[Cell]:
    trend = "" if row.trend is None else f"{_signed(row.trend)}/s"
    return [row.name, f"{row.depth:,}", trend, "" if row.consumers is None else f"{row.consumers:,}"]


def _release(row: ReleaseRow, size: Size) -> Sequence[Cell]:
    released = "" if row.released is None else f"{_number(row.released)}/s"
    ends = span(round(row.waiting / row.released) * 1000) if row.released else ""
    return [_name(row.breaker, size), f"{row.waiting:,}", released, _limit(row.limit), f"in {ends}" if ends else ""]


def _incident(incident: Incident, now: int, size: Size) -> Sequence[Cell]:
    number, whole, *rest = incident_row(incident, now)
    return [number, _short(str(whole), size), *rest]


def _change(change: Change, size: Size) -> Sequence[Cell]:
    breaker = change.breaker
    why = _reason(breaker, change.time) if breaker.state in SHUT else ""
    return [(clock(change.time), "dim"), _name(breaker, size), breaker_state(breaker.state), why]


def _name(breaker: Breaker, size: Size) -> str:
    """The name and tenant, cut so that the other columns have a place."""
    other = other_tenant(breaker.tenant)
    whole = f"{name_of(breaker)} ({other})" if other else name_of(breaker)
    return _short(whole, size)


def _short(whole: str, size: Size) -> str:
    if size.lines is None:
        return whole
    cut = text(plain(whole))
    cut.truncate(max(_NAME_LEAST, size.columns // _NAME_PART), overflow="ellipsis")
    return cut.plain


def _flat(cell: Cell) -> Cell:
    """The cell without line breaks, too: here, one thing is one line."""
    return plain(cell) if isinstance(cell, str) else (plain(cell[0]), cell[1])


def _line(size: Size, *cells: Cell) -> Text:
    """One line, cut to the width."""
    from rich.text import Text  # noqa: PLC0415 - only commands that print for people pay for rich

    return _cut(Text("  ").join(text(_flat(cell)) for cell in cells if cell and cell[0]), size)


def _cut(line: Text, size: Size) -> Text:
    if size.lines is not None:
        line.truncate(size.columns, overflow="ellipsis")
    return line


def _age(since: int, now: int) -> str:
    """`42 s`, in the largest unit; empty for 0 (unknown)."""
    return " ".join(span(max(1000, now - since)).split()[:2]) if since else ""


def _limit(rate: float) -> str:
    return f"{_number(rate)}/s" if rate else ""


def _number(number: float | None) -> str:
    """With a decimal as long as that says something; `-` if it is unknown."""
    if number is None:
        return "-"
    return f"{number:,.1f}" if abs(number) < 100 else f"{number:,.0f}"  # noqa: PLR2004 - three digits


def _signed(number: float | None) -> str:
    shown = _number(number)
    return f"+{shown}" if number and number > 0 and shown != "0.0" else "0.0" if shown == "-0.0" else shown
