"""The command `sickbay top`: live at a terminal, one frame otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import click

from sickbay_cli import options
from sickbay_cli.exit_codes import Unreachable
from sickbay_cli.jobs import now
from sickbay_cli.options import SPAN, Endpoint, examples
from sickbay_cli.output import console, count, document, show
from sickbay_cli.top.as_json import document_view
from sickbay_cli.top.frame import Frame, Reading, frame
from sickbay_cli.top.memory import ChangeLog, History
from sickbay_cli.top.readings import source, unavailable
from sickbay_cli.top.view import Size, lay_out

_LEAST_MS: Final = 100
_MOST_MS: Final = 3_600_000


@click.command(epilog=examples("sickbay top", "sickbay top --every 5s", "sickbay top --once", "sickbay top --once --json | jq .jobs"))
@click.option("--every", "every_ms", type=SPAN, metavar="SPAN", default="1s", show_default=True, help="Time between two readings.")
@click.option("--once", is_flag=True, help="Print one frame and exit; so it is also if the output is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print the frame as JSON.")
@click.option("--tenant", default="", help="Only breakers, parked jobs, incidents and slots of this tenant's jobs.")
@options.endpoints("jobapi", "worker", "control-plane")
def top(*, every_ms: int, once: bool, as_json: bool, tenant: str, jobapi: Endpoint, worker: Endpoint, control_plane: Endpoint) -> None:
    """Watch breakers, jobs, queues, releases and incidents live.

    Breakers that are not CLOSED, or that throttle, come first. Rates are means of the last five seconds, those of retrying, parked and
    quarantined jobs how many more there are. With tenants, those whose jobs run are listed with the slots they take; with --tenant, rates
    and queues are still those of all. A service that is unavailable is shown as such, until it is back. q or Ctrl-C quits.

    --once compares two readings, so it takes the time of --every. It exits with 4 if a service is unavailable.
    """
    if not _LEAST_MS <= every_ms <= _MOST_MS:
        raise click.BadParameter("must be from 100ms to 1h", param_hint="--every")
    terminal = console()
    is_live = terminal.is_terminal and not terminal.is_dumb_terminal and not once
    if as_json and is_live:
        raise click.UsageError("--json needs --once")
    endpoints = {"jobapi": jobapi, "worker": worker, "control-plane": control_plane}
    if is_live:
        from sickbay_cli.top.screen import run  # noqa: PLC0415 - needs a terminal

        click.get_current_context().exit(run(endpoints, every_ms / 1000, tenant))
    reading, shown = _read_twice(endpoints, every_ms, tenant)
    if as_json:
        document(document_view(shown))
    else:
        show(terminal, lay_out(shown, Size(terminal.width)))
    if down := unavailable(reading):
        raise Unreachable(f"{count(len(down), 'service')} of {len(reading.health)} not serving")
    if reading.problem:
        raise Unreachable(f"control plane: {reading.problem}")


def _read_twice(endpoints: Mapping[str, Endpoint], every_ms: int, tenant: str) -> tuple[Reading, Frame]:
    history, log = History(), ChangeLog()
    with source(endpoints, tenant) as asked:
        began = time.monotonic()
        readings = [asked.read()]
        time.sleep(max(0.0, every_ms / 1000 - (time.monotonic() - began)))
        readings.append(asked.read())
    for reading in readings:
        if reading.plane is not None:
            history.add(reading.plane)
            for breaker in reading.plane.breakers:
                log.add(breaker)
    return readings[-1], frame(readings[-1], history.before, history.last, log.latest, now())
