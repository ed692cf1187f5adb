"""How a command ends when it does not end well: one sentence on stderr and an exit code that scripts can rely on."""

from __future__ import annotations

import click

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Refused(click.ClickException):
    """The service said no, or a part of the work failed."""

    exit_code = 1


class Incomplete(click.ClickException):
    """An option or a variable is missing that has no default."""

    exit_code = 2


class NotThere(click.ClickException):
    """No such job or circuit."""

    exit_code = 3


class Unreachable(click.ClickException):
    """The service cannot be reached, or something behind it cannot; nothing is lost."""

    exit_code = 4


class Unsuccessful(click.ClickException):
    """The job that was followed ended, but not SUCCEEDED."""

    exit_code = 5


class NeedsPerson(click.ClickException):
    """The job that was followed is QUARANTINED: it does not go on by itself."""

    exit_code = 6


class TimeOver(click.ClickException):
    """The time of --for is over, and the job has not ended."""

    exit_code = 124


EXIT_CODES = """\b
Exit codes:
  0    fine
  1    refused or failed, in part or as a whole
  2    the command was misspelt, or lacks something
  3    no such job or circuit
  4    a service is unreachable or unavailable
  5    the job ended without success (watch, submit --wait)
  6    the job needs a person: it is QUARANTINED (watch, submit --wait)
  124  the time of --for is over (watch, submit --wait)
  130  interrupted with Ctrl-C"""

WAITING_CODES = """\b
Exit codes:
  0    SUCCEEDED
  5    ended otherwise: DISCARDED or CANCELLED
  6    QUARANTINED: it needs a person, and does not go on by itself
  124  the time of --for is over
  `sickbay --help` has the others."""
