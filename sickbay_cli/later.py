"""The options --in and --at: when a job is to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from sickbay.jobs.v1.job_pb2 import Job
from sickbay_cli import options
from sickbay_cli.format import ms
from sickbay_cli.moments import MOMENT, at_and_when


def later(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --in and --at; the command gets `delay` and `run_at` in milliseconds, None if they are not given."""
    function = click.option(
        "--at",
        "run_at",
        type=MOMENT,
        metavar="TIME",
        help="Run it at this time: 2027-01-01T08:00+01:00; without an offset it is a time of this machine's zone.",
    )(function)
    return click.option("--in", "delay", type=options.SPAN, metavar="SPAN", help="Run it so long from now: 30s, 10m, 2d.")(function)


def set_run_time(request: Any, delay: int | None, run_at: int | None) -> None:
    """Write them into a request; UsageError if both are given."""
    if delay is not None and run_at is not None:
        raise click.UsageError("use either --in or --at, not both")
    if delay is not None:
        request.delay.FromMilliseconds(delay)
    if run_at is not None:
        request.run_time.FromMilliseconds(run_at)


def due(job: Job, now: int) -> str:
    """` and runs at 2027-01-01 08:00:00 CET, in 3 h` for a job that is SCHEDULED; otherwise empty."""
    return f" and runs at {at_and_when(ms(job, 'run_time'), now)}" if job.state == Job.STATE_SCHEDULED else ""
