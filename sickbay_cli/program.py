"""The `sickbay` command group: its commands, and the handling of errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

import click

from sickbay_cli import streams
from sickbay_cli.exit_codes import EXIT_CODES, INTERRUPTED
from sickbay_cli.main import what_to_install

COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "up": ("sickbay_cli.up:up", "Start all three services in one process."),
        "new": ("sickbay_cli.new:new", "Write a new project: a handler, its tests, a compose file."),
        "run": ("sickbay_cli.run_handler:run", "Run one handler once, in the foreground, without any service."),
        "jobapi": ("sickbay_cli.services:jobapi", "Run the Job API as a process of its own."),
        "worker": ("sickbay_cli.services:worker", "Run a worker as a process of its own."),
        "controlplane": ("sickbay_cli.services:controlplane", "Run the control plane as a process of its own."),
        "topology": ("sickbay_cli.topology:topology", "Check or create the queues in RabbitMQ (RABBITMQ_URL)."),
        "config": ("sickbay_cli.config:config", "Check or explain the settings file (SICKBAY_CONFIG), or print its JSON Schema."),
        "keys": ("sickbay_cli.keys:keys", "Make, list, revoke and check API keys."),
        "submit": ("sickbay_cli.submit:submit", "Submit a job, copies of it, or a file of jobs."),
        "get": ("sickbay_cli.jobs:get", "Show one job with its history."),
        "explain": ("sickbay_cli.explain:explain", "Explain why a job or a job type does not run."),
        "watch": ("sickbay_cli.jobs:watch", "Follow a job until it has ended."),
        "jobs": ("sickbay_cli.jobs:jobs", "List jobs, newest first."),
        "cancel": ("sickbay_cli.jobs:cancel", "Cancel jobs."),
        "breakers": ("sickbay_cli.breakers:breakers", "Show the breakers, or one of them."),
        "reset": ("sickbay_cli.breaker_commands:reset", "Close a breaker at once and clear its failures."),
        "force-open": ("sickbay_cli.breaker_commands:force_open", "Hold a breaker open: its jobs are parked."),
        "disable": ("sickbay_cli.breaker_commands:disable", "Switch a breaker off: every job runs, nothing is counted."),
        "metrics-only": ("sickbay_cli.breaker_commands:metrics_only", "Let a breaker count without acting."),
        "auto": ("sickbay_cli.breaker_commands:auto", "Let a breaker decide by itself again."),
        "probe": ("sickbay_cli.breaker_commands:probe", "Probe an open breaker now instead of after its cooldown."),
        "incidents": ("sickbay_cli.incidents:incidents", "Show outages of breakers: what happened, and what it cost."),
        "audit": ("sickbay_cli.audit:audit", "Show who did what, and what was refused."),
        "quarantine": ("sickbay_cli.quarantine:quarantine", "Manage parked and quarantined jobs."),
        "scheduled": ("sickbay_cli.scheduled:scheduled", "Manage jobs that are to run later."),
        "schedules": ("sickbay_cli.schedules:schedules", "Manage schedules: jobs that are submitted again and again."),
        "requeue": ("sickbay_cli.requeue:requeue", "Requeue jobs that are in the ledger but in no queue."),
        "outbox": (
            "sickbay_cli.outbox:outbox",
            "Manage the transactional outbox: jobs that programs submit within their database transactions.",
        ),
        "types": ("sickbay_cli.types:types", "List the job types, or show one with the JSON Schema of its payloads."),
        "workers": ("sickbay_cli.workers:workers", "List the live workers, their slots and the job types they handle."),
        "metrics": ("sickbay_cli.status:metrics", "Show metrics."),
        "top": ("sickbay_cli.top.command:top", "Watch breakers, jobs, queues, releases and incidents live."),
        "health": ("sickbay_cli.status:health", "Show the health of all three services."),
    }
)
"""The location of each command and its line in `sickbay --help`, which therefore imports none of them."""
_OUTPUT_ERRORS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE, errno.EAGAIN}
"""Errors of writing to the output; any other error without a file name is a fault."""
_PATHS: Final = ("--config", "--data", "--file", "--from", "-f")
"""Options that take a path."""


class Commands(click.Group):
    """Imports a command's module when the command is used, and ends every command with one sentence instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        try:
            command: click.Command = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise click.ClickException(what_to_install(error)) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Names and summaries from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command line and exit with its code, after an error with one sentence if that can be written."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)  # type: ignore[call-overload]  # click's own arguments
        streams.prepare()
        code = 1
        try:
            code = super().main(*args, standalone_mode=False, **extra) or 0  # type: ignore[call-overload]  # the same
        except click.ClickException as error:
            code = error.exit_code
            with suppress(OSError):
                error.show()
        except click.Abort:
            code = INTERRUPTED
        except OSError as error:
            if not error.filename and error.errno not in _OUTPUT_ERRORS:
                raise
            with suppress(OSError):
                click.echo(f"Error: {_reason(error)}", err=True)
        finally:
            streams.forget()
        raise SystemExit(code)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reject arguments that are not text: no job, job type or tenant has such a name. Paths may be anything."""
        for before, argument in zip(["", *args], args, strict=False):
            if not streams.is_text(argument) and not _may_be_a_path(before, argument):
                shown = argument.encode("utf-8", "backslashreplace").decode()
                raise click.UsageError(f"an argument is not UTF-8 text: {shown}", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exits silently with 130 after Ctrl-C, and with 0 if the reader of the output has gone."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            ctx.exit(0)


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sickbay", message="%(prog)s %(version)s")
def cli() -> None:
    """Sickbay: a job system that heals itself.

    Failed jobs are retried, isolated, probed and brought back. `sickbay up` starts everything; the other
    commands talk to the services over gRPC, on this machine or where their options and SICKBAY_JOBAPI, SICKBAY_WORKER and
    SICKBAY_CONTROL_PLANE say. `sickbay COMMAND --help` has examples.
    """


def _may_be_a_path(before: str, argument: str) -> bool:
    return argument.startswith(("@", "--payload=@", *(f"{option}=" for option in _PATHS))) or before in _PATHS


def _reason(error: OSError) -> str:
    """The error with its file name; without a name it is the output."""
    why = error.strerror or os.strerror(error.errno or errno.EIO)
    return f"{error.filename}: {why}" if error.filename else f"the output cannot be written: {why}"
