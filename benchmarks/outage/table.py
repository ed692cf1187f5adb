"""The figures as one table."""

from __future__ import annotations

from rich.table import Table

from benchmarks.outage.figures import Figures, Spread
from benchmarks.outage.scenarios import Scenario

COLUMNS = (
    ("scenario", "left"),
    ("who", "left"),
    ("opens", "right"),
    ("a in vain", "right"),
    ("b closed", "right"),
    ("healed", "right"),
    ("c peak/C", "right"),
    ("refused", "right"),
    ("reopened", "right"),
    ("drain", "right"),
    ("d fresh p50/p99 ms (idle)", "right"),
    ("other p99 (idle)", "right"),
    ("e done/quarantined/parked/waiting/lost/twice", "right"),
    ("f goodput", "right"),
)
LEGEND = (
    "opens: seconds until a circuit opened. a: calls to the dead dependency after that, beyond one for each probe (of all calls to it). "
    "b: seconds from the return until closed; healed: until all jobs were done, too. c: most calls in a second, divided by the capacity; "
    "share refused; how often a closed circuit opened; rate at which the waiting jobs were served, divided by the capacity that fresh ones "
    "leave. d: submit to start of jobs submitted during the release. f: share of what a perfect system would have done, until two "
    "cooldowns after it is done. For scenarios in which the dependency still serves something, c, d and f are of the illness, the others "
    "of the time after it."
)


def table(rows: list[tuple[Scenario, str, Figures]], title: str) -> Table:
    """A line for each run."""
    shown = Table(title=f"After an outage: {title}", caption=LEGEND, caption_justify="left")
    for name, justify in COLUMNS:
        shown.add_column(name, justify=justify)  # type: ignore[arg-type]  # left or right
    before = ""
    for scenario, contender, figures in rows:
        if before not in {"", scenario.name}:
            shown.add_section()
        shown.add_row("" if scenario.name == before else scenario.name, contender, *cells(figures))
        before = scenario.name
    return shown


def cells(figures: Figures) -> list[str]:
    """One run's figures as text."""
    ends = figures.ends
    return [
        number(figures.opened_s),
        _in_vain(figures),
        number(figures.closed_s),
        _healed(figures),
        f"{figures.peak:.2f}",
        f"{figures.refused:.0%}",
        str(figures.reopened),
        number(figures.drain, 2),
        f"{_pair(figures.fresh)} ({_pair(figures.idle)})",
        f"{number(figures.other.p99, 0)} ({number(figures.other_idle.p99, 0)})",
        f"{ends.succeeded}/{ends.quarantined}/{ends.parked}/{ends.waiting}/{ends.lost}/{figures.duplicates}",
        "-" if figures.goodput is None else f"{figures.goodput:.0%}",
    ]


def number(value: float | None, digits: int = 1) -> str:
    """As text; "-" is never, or does not apply."""
    return "-" if value is None else f"{value:.{digits}f}"


def _pair(spread: Spread) -> str:
    return f"{number(spread.p50, 0)}/{number(spread.p99, 0)}"


def _healed(figures: Figures) -> str:
    if figures.healed_s is None:
        return f"not within {figures.watched_s:.0f} s"
    if figures.ends.quarantined:
        return f"never: {figures.ends.quarantined} quarantined"
    return f"{figures.healed_s:.1f}"


def _in_vain(figures: Figures) -> str:
    if figures.dead_calls is None:
        return "-"
    return f"{number(figures.wasted, 0)} ({figures.dead_calls})"
