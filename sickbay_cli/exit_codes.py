"""The errors of commands: each is one sentence on stderr and an exit code that scripts can rely on."""

from __future__ import annotations

import click

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""


class Refused(click.ClickException):
    """The service rejected the request, or a part of the work failed."""

    exit_code = 1


class MissingOption(click.ClickException):
    """A required option or variable is missing."""

    exit_code = 2


class Invalid(click.ClickException):
    """A file that the command was given is not valid, where 1 has another meaning."""

    exit_code = 2


class NotFound(click.ClickException):
    """No such job, breaker or schedule."""

    exit_code = 3


class Unreachable(click.ClickException):
    """The service, or a server behind it, is unavailable; nothing is lost."""

    exit_code = 4


class Unsuccessful(click.ClickException):
    """The watched job ended, but not SUCCEEDED."""

    exit_code = 5


class NeedsPerson(click.ClickException):
    """The watched job is QUARANTINED: it does not continue by itself."""

    exit_code = 6


class TimedOut(click.ClickException):
    """--for has timed out, and the job has not ended."""

    exit_code = 124


EXIT_CODES = """\b
Exit codes:
  0    success
  1    rejected or failed, in part or as a whole; something differs (schedules diff)
  2    usage error, or an option or setting is missing
  3    not found: no such job, breaker or schedule
  4    a service is unavailable
  5    the job did not succeed (watch, submit --wait)
  6    the job is QUARANTINED and needs a person (watch, submit --wait)
  124  timed out (--for of watch, submit --wait)
  130  interrupted (Ctrl-C)"""

WAITING_CODES = """\b
Exit codes:
  0    SUCCEEDED
  5    did not succeed: DISCARDED or CANCELLED
  6    QUARANTINED: it needs a person, and does not continue by itself
  124  timed out (--for)
  `sickbay --help` has the others."""
