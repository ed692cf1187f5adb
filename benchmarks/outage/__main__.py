"""What an outage does to a job system, and how the system heals: `python -m benchmarks.outage`.

    python -m benchmarks.outage outage overload --scale 0.2 --plot outage.svg      some scenarios, shorter
    python scripts/with_servers.py python -m benchmarks.outage --stack distributed --workers 2

A fake dependency (a process of its own) of known capacity falls ill and comes back while jobs are submitted at a steady rate. Sickbay is
looked at only from outside: gRPC, the dependency's own book, and what its handlers write down. Dramatiq runs the same jobs if it is
installed, with its usual retries and with a breaker library in its actors (purgatory; pybreaker, too, with `--only dramatiq+pybreaker`):

    python -m venv .venv-peers
    .venv-peers/bin/pip install 'dramatiq[rabbitmq]' purgatory
    echo "import site; site.addsitedir('$PWD/.venv/lib/python3.11/site-packages')" > .venv-peers/lib/python3.11/site-packages/product.pth
    .venv-peers/bin/python -m benchmarks.outage
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks.outage import contenders
from benchmarks.outage.contenders import Form
from benchmarks.outage.figures import figures
from benchmarks.outage.report import Played, write_json, write_plots
from benchmarks.outage.scenarios import RATE, Scenario, Times, scenarios
from benchmarks.outage.table import table

WIDTH: Final = 230
"""Of the table in a file."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"default: all of {', '.join(scenarios())}")
    parser.add_argument("--stack", choices=("embedded", "distributed"), default="embedded", help="Sickbay's form; default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (embedded: of Dramatiq only); default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="all times and bursts multiplied; 1 takes minutes for each run")
    parser.add_argument("--rate", type=float, default=RATE, help="jobs a second on the dependency; default: %(default)g")
    parser.add_argument("--only", nargs="+", choices=contenders.known(), metavar="WHO", help=f"of {', '.join(contenders.known())}")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting for Sickbay, for example BREAKER_RAMP=0"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the dependency's errors")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and series there")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw each scenario")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios that are asked for, scaled and with the settings; SystemExit if one is not known."""
    known = scenarios(options.rate)
    if unknown := [name for name in options.scenarios if name not in known]:
        raise SystemExit(f"no such scenario: {', '.join(unknown)}; there are {', '.join(known)}")
    settings = dict(pair.partition("=")[::2] for pair in options.set)
    names = options.scenarios or list(known)
    return [replace(one, settings={**one.settings, **settings}).scaled(options.scale) for one in (known[name] for name in names)]


async def measure(options: argparse.Namespace) -> None:
    """Every scenario with every contender, then the table."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console, runs = Console(width=None if sys.stdout.isatty() else WIDTH), list[Played]()
    who = [name for name in options.only or contenders.usual() if contenders.installed(name)]
    if missing := [name for name in options.only or contenders.known() if not contenders.installed(name)]:
        console.print(f"not installed: {', '.join(missing)}")
    times, form = Times().scaled(options.scale), Form(options.stack, options.workers)
    try:
        for scenario, name in product(chosen(options), who):
            console.print(f"{scenario.name} ({scenario.about}, x {options.scale:g}): {name}", highlight=False)
            try:
                trace = await contenders.play(name, form, scenario, times, options.seed)
            except OSError as error:
                console.print(f"{name} cannot run here: {error}")
                continue
            runs.append(Played(scenario, trace, figures(scenario, trace, times.cooldown_s)))
    finally:
        _tell(console, options, runs)


def _tell(console: Console, options: argparse.Namespace, runs: list[Played]) -> None:
    """What there is, also after an interruption."""
    if not runs:
        return
    title = f"{options.stack}, {options.workers} worker(s), scale {options.scale:g}, {options.rate:g} jobs a second"
    console.print(table([(run.scenario, run.trace.contender, run.figures) for run in runs], title))
    if options.json:
        write_json(options.json, {"stack": options.stack, "workers": options.workers, "scale": options.scale, "rate": options.rate}, runs)
    if options.plot:
        console.print("drawn:", *write_plots(options.plot, title, runs))


def main() -> None:
    """Measure until done, Ctrl-C or SIGTERM; the children end with us."""
    try:
        uvloop.run(measure(arguments()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
