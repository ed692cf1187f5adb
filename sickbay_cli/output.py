"""Output of commands: tables and details for people, JSON for programs; progress and remarks go to stderr.

Tables fit the terminal (columns that do not fit are omitted); output to a pipe is complete, uncut and without colour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from sickbay_cli.exit_codes import Refused

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Cell = str | tuple[str, str]
"""A text, or a text and its rich style."""

_PIPE_WIDTH: Final = 100_000
_MANY: Final = 2
_GAP: Final = 2
_LEAST_ROOM: Final = 12
"""A loose column with less room is omitted."""
_PAGE: Final = 200
"""Page size of calls: the first page comes soon, and a long list needs few calls."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; omitted on terminals narrower than `least`. A `loose` one is cut to the remaining width."""

    title: str
    least: int = 0
    loose: bool = False
    right: bool = False


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, steps: int, /) -> None:
        """By so many steps."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows under titles."""
    shown_on = console()
    show(shown_on, grid(columns, rows, shown_on.width))


def grid(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> Table:
    """Rows under titles, as wide as `width` at most."""
    from rich.table import Table  # noqa: PLC0415 - only commands that print for people pay for rich

    texts = [[text(cell) for cell in row] for row in rows]
    made = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    shown, room = _fitting(columns, texts, width)
    for column in (columns[index] for index in shown):
        cut: Any = {"no_wrap": True, "overflow": "ellipsis", "max_width": room} if column.loose else {"overflow": "fold"}
        made.add_column(column.title, justify="right" if column.right else "left", **cut)
    for row in texts:
        made.add_row(*(row[index] for index in shown))
    return made


def _fitting(columns: Sequence[Column], texts: Sequence[Sequence[Text]], width: int) -> tuple[list[int], int]:
    """Which columns fit a terminal of this width, and the width of a loose one."""
    shown = [index for index, column in enumerate(columns) if width >= column.least]
    tight = [index for index in shown if not columns[index].loose]
    taken = sum(max([len(columns[index].title), *(row[index].cell_len for row in texts)]) + _GAP for index in tight)
    room = width - taken
    return (shown if room >= _LEAST_ROOM else tight), room


def details(pairs: Sequence[tuple[str, Cell]]) -> None:
    """Print names and values, a line each; empty values are omitted."""
    from rich.table import Table  # noqa: PLC0415 - only commands that print for people pay for rich

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value and value[0]:
            grid.add_row(name, text(value))
    show(console(), grid)


def line(*cells: Cell) -> None:
    """Print one line at once, as streams do."""
    from rich.text import Text  # noqa: PLC0415 - only commands that print for people pay for rich

    show(console(), Text("  ").join(text(cell) for cell in cells if cell and cell[0]), soft_wrap=True)


def document(view: Any) -> None:
    """Print one JSON document, indented."""
    import msgspec  # noqa: PLC0415 - only --json needs it

    click.echo(msgspec.json.format(msgspec.json.encode(view), indent=2))


def record(view: Any) -> None:
    """Print one JSON object on one line, as streams do."""
    import msgspec  # noqa: PLC0415 - only --json needs it

    click.echo(msgspec.json.format(msgspec.json.encode(view), indent=-1))


def remark(text: str) -> None:
    """Print a message to stderr that is not part of the result."""
    click.echo(plain(text), err=True)


def plain(text: str) -> str:
    """The text without control characters, which could move the cursor or change colours: messages of jobs are untrusted."""
    return (
        text
        if text.isprintable()
        else "".join(one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)
    )


def count(number: int, noun: str) -> str:
    """`1 job`, `1,234 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def pages(fetch: Callable[[int, str], tuple[Sequence[Any], str]], limit: int, token: str = "") -> tuple[list[Any], str]:
    """Read pages until there are `limit` items or no more; the token continues from there."""
    items: list[Any] = []
    while True:
        page, token = fetch(min(limit - len(items), _PAGE), token)
        items.extend(page)
        if not token or len(items) >= limit:
            return items, token


def more(noun: str, shown: int, token: str, total: int = 0) -> None:
    """Print to stderr that there are more items, and how to see them; `total` is 0 if it is unknown."""
    if token:
        head = f"{shown:,} of {total:,} {noun} shown" if total else f"there are more than these {shown:,} {noun}"
        remark(f"{head}: --limit {shown * 10} shows more, --page-token {token} continues from here")


def confirm(question: str, *, yes: bool, as_json: bool) -> None:
    """Ask before something irreversible; Refused without a yes, and without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} No terminal to confirm; use --yes")
    if not as_json and not click.confirm(question, err=True):
        raise Refused("nothing was changed")


@contextmanager
def progress(length: int, label: str) -> Iterator[Advance]:
    """A progress bar on stderr, if that is a terminal and there is more than one step."""
    if length < _MANY or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def console() -> Console:
    """The terminal, or a pipe of endless width."""
    from rich.console import Console  # noqa: PLC0415 - only commands that print for people pay for rich

    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def text(cell: Cell) -> Text:
    """The cell in its style, without control characters."""
    from rich.text import Text  # noqa: PLC0415 - only commands that print for people pay for rich

    words, style = (cell, "") if isinstance(cell, str) else cell
    return Text("\n".join(plain(part) for part in words.split("\n")), style=style)


def show(shown_on: Console, content: Any, *, soft_wrap: bool = False) -> None:
    """Print what rich can render."""
    with shown_on.capture() as capture:
        shown_on.print(content, soft_wrap=soft_wrap)
    for part in capture.get().splitlines():
        click.echo(part.rstrip(), color=True)  # rich has handled colours already
