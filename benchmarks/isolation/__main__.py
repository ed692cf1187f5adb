"""What one type, tenant or flood costs the others: `python -m benchmarks.isolation`.

    python -m benchmarks.isolation flood hang --scale 0.2                          some rows, smaller
    python scripts/with_servers.py python -m benchmarks.isolation --stack distributed --workers 2
    python -m benchmarks.isolation cost                                            one type alone, without a flood

For 10 jobs a second: the time from submission to the start of the handler, by itself, behind floods of other types and tenants, and by
priority. Submissions are timed by the client, starts by the handlers, on the machine's monotonic clock. Dramatiq runs the same jobs if it
is installed, with one queue, and with a queue for each type (and priority) configured by hand:

    python -m venv .venv-peers
    .venv-peers/bin/pip install 'dramatiq[rabbitmq]'
    echo "import site; site.addsitedir('$PWD/.venv/lib/python3.11/site-packages')" > .venv-peers/lib/python3.11/site-packages/product.pth
    .venv-peers/bin/python -m benchmarks.isolation
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks.isolation import contenders
from benchmarks.isolation.clients import KNOWN, installed
from benchmarks.isolation.contenders import Form
from benchmarks.isolation.cost import costs
from benchmarks.isolation.figures import figures
from benchmarks.isolation.rows import Row, rows
from benchmarks.isolation.table import Played, table

WIDTH: Final = 200
"""Of the table in a file."""
COST: Final = "cost"
JOBS: Final = 10_000
"""Of `cost`, at scale 1."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(rows())}; also: {COST}")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="the same")
    parser.add_argument("--who", nargs="+", choices=KNOWN, metavar="WHO", help=f"of {', '.join(map(repr, KNOWN))}")
    parser.add_argument("--stack", choices=("embedded", "distributed"), default="embedded", help="Sickbay's form; default: %(default)s")
    parser.add_argument("--workers", type=int, choices=range(1, 5), default=1, help="processes (embedded: of Dramatiq only); default: 1")
    parser.add_argument("--scale", type=float, default=1.0, help="floods and watches multiplied; 1 takes minutes")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds that a run may take; default: %(default)g")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting for Sickbay")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


def chosen(names: list[str], scale: float) -> list[Row]:
    """The rows that are asked for; always with `idle`, to which the others are compared. SystemExit if one is not known."""
    known = rows()
    if unknown := [name for name in names if name not in {*known, COST}]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(known)}, {COST}")
    if names and set(names) == {COST}:
        return []
    return [row.scaled(scale) for row in known.values() if not names or row.name in {*names, "idle"}]


async def measure(options: argparse.Namespace) -> None:
    """Every row with every contender, then the table."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console, played = Console(width=None if sys.stdout.isatty() else WIDTH), list[Played]()
    names = [*options.rows, *options.only]
    form = Form(options.stack, options.workers, options.timeout, dict(pair.partition("=")[::2] for pair in options.set))
    if missing := [name for name in options.who or KNOWN if not installed(name)]:
        console.print(f"not installed: {'; '.join(missing)}")
    try:
        for row in chosen(names, options.scale):
            for who in options.who or KNOWN:
                if installed(who):
                    console.print(f"{row.about}: {who}", highlight=False)
                    played.extend(await _played(console, who, form, row))
    finally:
        _tell(console, options, played)
    if COST in names:
        for cost in await costs(form, round(JOBS * options.scale)):
            console.print(f"cost, {cost.name}: {cost.jobs} jobs, {cost.per_s:.0f} jobs/s, {cost.cpu_us:.0f} CPU us a job", highlight=False)


async def _played(console: Console, who: str, form: Form, row: Row) -> list[Played]:
    try:
        trace = await contenders.play(who, form, row)
    except OSError as error:
        console.print(f"{who} cannot run here: {error}", highlight=False)
        return []
    return [Played(row, who, figures(row, trace), trace.note)]


def _tell(console: Console, options: argparse.Namespace, played: list[Played]) -> None:
    """What there is, also after an interruption."""
    if not played:
        return
    about = {"stack": options.stack, "workers": options.workers, "scale": options.scale}
    console.print(table(played, f"{options.stack}, {options.workers} worker(s), scale {options.scale:g}"))
    if options.json:
        told = [{"row": one.row.name, "who": one.who, "note": one.note, **asdict(one.figures)} for one in played]
        options.json.write_text(json.dumps(about | {"rows": told}, indent=1), "utf-8")


def main() -> None:
    """Measure until done, Ctrl-C or SIGTERM; the children end with us."""
    try:
        uvloop.run(measure(arguments()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
