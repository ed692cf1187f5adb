"""The options that say what a schedule does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, Final

import click

from sickbay.jobs.v1.job_pb2 import PRIORITY_UNSPECIFIED
from sickbay.schedules.v1.schedule_pb2 import Overlap, ScheduleSpec, WhileOpen
from sickbay_cli import options
from sickbay_cli.moments import MOMENT, timestamp
from sickbay_cli.payload import PAYLOAD

Change = Callable[[ScheduleSpec], None]

_OPTIONS: Final = (
    click.option("--cron", help='When it runs: "0 3 * * *", with six fields the first is the second; or @hourly, @daily and so on.'),
    click.option("--every", type=options.SPAN, metavar="SPAN", help="When it runs, as a time from run to run: 30s, 10m, 1d."),
    click.option("--timezone", help="Time zone of --cron, such as Europe/Berlin. Default: UTC."),
    click.option("--payload", type=PAYLOAD, help="Payload of its jobs: JSON text, @FILE, or - for stdin. Default: {}."),
    click.option("--priority", type=options.PRIORITY, default=PRIORITY_UNSPECIFIED, help="Priority of its jobs. Default: normal."),
    click.option("--start", type=MOMENT, metavar="TIME", help="Not before this time; as for `submit --at`."),
    click.option("--end", type=MOMENT, metavar="TIME", help="Not at or after this time: it has ended then."),
    click.option("--jitter", type=options.SPAN, metavar="SPAN", help="Each job runs up to so much later, so that not all begin at once."),
    click.option(
        "--overlap",
        type=click.Choice([one.removeprefix("OVERLAP_").lower() for one, number in Overlap.items() if number], case_sensitive=False),
        help="If the job before has not ended: skip, buffer_one (run it after that) or allow. Default: skip.",
    ),
    click.option("--catch-up", type=options.SPAN, metavar="SPAN", help="After an outage make up for times that are no older. Default: 1d."),
    click.option("--pause-on-failure/--no-pause-on-failure", default=None, help="Pause it when a job is quarantined or discarded."),
    click.option(
        "--while-open",
        type=click.Choice([one.removeprefix("WHILE_OPEN_").lower() for one, number in WhileOpen.items() if number], case_sensitive=False),
        help="If the circuit of the job type is open: run (the job is parked) or skip. Default: run.",
    ),
    click.option("--description", help="What it is for, one line."),
)


def spec_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one `change`, which writes those that are given into a spec."""

    @wraps(function)
    def command(*args: Any, **given: Any) -> Any:
        said = {name: given.pop(name) for name in _WRITERS}
        return function(*args, change=lambda spec: _write(spec, said), **given)

    decorated: Callable[..., Any] = command
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _write(spec: ScheduleSpec, said: dict[str, Any]) -> None:
    """UsageError if both --cron and --every are given; one of them takes the place of the other."""
    if said["cron"] is not None and said["every"] is not None:
        raise click.UsageError("use either --cron or --every, not both")
    if said["every"] is not None:
        spec.ClearField("cron")
        spec.ClearField("timezone")
    if said["cron"] is not None:
        spec.ClearField("interval")
    for option, write in _WRITERS.items():
        if said[option] is not None:
            write(spec, said[option])


def _value(field: str) -> Callable[[ScheduleSpec, Any], None]:
    return lambda spec, value: setattr(spec, field, value)


def _span(field: str) -> Callable[[ScheduleSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).FromMilliseconds(value)


def _time(field: str) -> Callable[[ScheduleSpec, Any], None]:
    return lambda spec, value: getattr(spec, field).CopyFrom(timestamp(value))


_WRITERS: Final[Mapping[str, Callable[[ScheduleSpec, Any], None]]] = MappingProxyType(
    {
        "cron": _value("cron"),
        "every": _span("interval"),
        "timezone": _value("timezone"),
        "payload": _value("payload_json"),
        "priority": lambda spec, number: setattr(spec, "priority", number or spec.priority),
        "start": _time("start_time"),
        "end": _time("end_time"),
        "jitter": _span("jitter"),
        "overlap": lambda spec, name: setattr(spec, "overlap", Overlap.Value(f"OVERLAP_{name.upper()}")),
        "catch_up": _span("catch_up_window"),
        "pause_on_failure": _value("pause_on_failure"),
        "while_open": lambda spec, name: setattr(spec, "while_open", WhileOpen.Value(f"WHILE_OPEN_{name.upper()}")),
        "description": _value("description"),
    }
)
"""By the name of the option."""
