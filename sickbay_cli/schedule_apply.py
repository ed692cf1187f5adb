"""`sickbay schedules apply` and `diff`: make schedules be as a file says, or show what that would change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

import click
import grpc

from sickbay.domain.job import DEFAULT_TENANT
from sickbay_cli import client, options
from sickbay_cli.exit_codes import Invalid, Refused, Unreachable
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import confirm, count, document, line, remark
from sickbay_cli.schedule_file import FileMistakes, ScheduleFile, parse_file
from sickbay_cli.schedule_plan import DONE, Action, Step, carry_out, plan

_SIGNS: Final = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.DELETE: ("-", "red"),
    Action.REFUSE: ("!", "bold red"),
}
Failures = dict[tuple[str, str], click.ClickException]
"""By the key of the step."""
_FROM_CODE: Final = "it comes from code, @handler(schedule=...): change it there, or take it out of the file"

_file = click.option(
    "-f", "--file", "source", type=click.File("rb"), required=True, metavar="FILE", help="File of schedules (TOML); - is stdin."
)
_delete_missing = click.option(
    "--delete-missing", is_flag=True, help="Delete schedules of its tenants that the file lacks; never those that workers announce."
)
_of_tenant = click.option("--tenant", default=DEFAULT_TENANT, help="The tenant of [schedules.NAME]; default: the default one.")

_FORMAT = """\b
The file:
  [schedules.nightly]
  type = "report"
  cron = "0 3 * * *"            # or every = "10m"
  timezone = "Europe/Berlin"
  payload = { of = "night" }    # or JSON text
  Also priority, start, end, jitter, overlap, catch_up, pause_on_failure, while_open, description.
  [tenants.acme.schedules.nightly] is one of the tenant acme."""
_APPLY_EXAMPLES = examples(
    "sickbay schedules apply -f schedules.toml", "sickbay schedules list --toml | sickbay schedules apply -f - --delete-missing --yes"
)
_DIFF_EXAMPLES = examples(
    "sickbay schedules diff -f schedules.toml", "sickbay schedules diff -f schedules.toml || echo not as the file says"
)
_DIFF_CODES = """\b
Exit codes:
  0    nothing differs
  1    something does
  2    the file is not valid, or the service refused to say
  `sickbay --help` has the others."""


@click.command(epilog=f"{_DIFF_EXAMPLES}\n\n{_FORMAT}\n\n{_DIFF_CODES}")
@_file
@_delete_missing
@_of_tenant
@options.endpoints("control-plane")
@options.as_json
@click.pass_context
def diff(ctx: click.Context, *, source: BinaryIO, delete_missing: bool, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Show what `apply` would change. Exits with 1 if something would."""
    file = _read(source, tenant)
    try:
        with client.schedules(control_plane) as stub:
            steps = plan(stub, file, control_plane.timeout, delete_missing=delete_missing)
    except Refused as error:
        raise Invalid(error.message) from None
    if as_json:
        document({"schedules": list(map(_view, steps))})
    else:
        _show(steps, tenant)
    if any(step.differs for step in steps):
        ctx.exit(1)


@click.command(epilog=f"{_APPLY_EXAMPLES}\n\n{_FORMAT}")
@_file
@_delete_missing
@_of_tenant
@options.yes
@options.actor
@options.endpoints("control-plane")
@options.as_json
def apply(*, source: BinaryIO, delete_missing: bool, tenant: str, yes: bool, actor: str, control_plane: Endpoint, as_json: bool) -> None:
    """Make schedules be as a file says.

    Shows what differs and asks, unless --yes or --json is given; without a terminal it needs --yes. Schedules that the file has are
    created or updated, others are left alone unless --delete-missing is given. All is checked before anything is changed. A schedule that
    somebody else has changed meanwhile is not overwritten. A pause is not of the file, and stays.
    """
    file = _read(source, tenant)
    with client.schedules(control_plane) as stub:
        steps = plan(stub, file, control_plane.timeout, delete_missing=delete_missing)
    if not as_json:
        _show(steps, tenant)
    to_do = [step for step in steps if step.differs]
    if refused := [step for step in to_do if step.action is Action.REFUSE]:
        raise Refused("; ".join(f"{step.where}: {_FROM_CODE}" for step in refused) + "; nothing was changed")
    _check(to_do, control_plane, actor)
    if to_do:
        confirm(_question(to_do), yes=yes, as_json=as_json)
    failed = _carry_out(to_do, control_plane, actor, tenant, quiet=as_json)
    if as_json:
        document({"schedules": [_view(step) | _result(step, failed) for step in steps]})
    if failed:
        words = f"{len(failed):,} of {count(len(to_do), 'change')} failed"
        kind = Unreachable if any(isinstance(error, Unreachable) for error in failed.values()) else Refused
        raise kind(words)


def _read(source: BinaryIO, tenant: str) -> ScheduleFile:
    try:
        return parse_file(source.read(), tenant)
    except FileMistakes as error:
        *most, last = error.mistakes
        for mistake in most:
            remark(f"{source.name}: {mistake}")
        raise Invalid(f"{source.name}: {last}") from None


def _check(steps: Sequence[Step], endpoint: Endpoint, actor: str) -> None:
    """Let the service check every change; Refused if any is not valid."""
    mistakes = _attempt(steps, endpoint, actor, only_check=True)
    for step in steps:
        if step.key in mistakes:
            remark(f"{step.where}: {mistakes[step.key].message}")
    if any(isinstance(error, Unreachable) for error in mistakes.values()):
        raise Unreachable("nothing was changed")
    if mistakes:
        raise Refused("nothing was changed")


def _carry_out(steps: Sequence[Step], endpoint: Endpoint, actor: str, tenant: str, *, quiet: bool) -> Failures:
    """What failed; what was done is printed, a line for each."""
    failed = _attempt(steps, endpoint, actor, tenant=None if quiet else tenant)
    for step in steps:
        if step.key in failed:
            remark(f"{_name(step, tenant)}: {failed[step.key].message}")
    return failed


def _attempt(steps: Sequence[Step], endpoint: Endpoint, actor: str, *, only_check: bool = False, tenant: str | None = None) -> Failures:
    """Try each step, and return the errors. With a `tenant` print what was done; an unavailable service ends the work at once."""
    failed: Failures = {}
    with client.schedules(endpoint) as stub:
        for index, step in enumerate(steps):
            try:
                carry_out(stub, step, endpoint.timeout, actor, only_check=only_check)
            except grpc.RpcError as error:
                failed[step.key] = client.failure(error, endpoint)
                if isinstance(failed[step.key], Unreachable):
                    failed |= {rest.key: Unreachable("not tried") for rest in steps[index + 1 :]}
                    break
            else:
                if tenant is not None:
                    click.echo(f"{DONE[step.action]} {_name(step, tenant)}")
    return failed


def _question(steps: Sequence[Step]) -> str:
    """`Create 2, update 1 and delete 1 schedules?`."""
    numbers = Counter(step.action for step in steps)
    words = [f"{action} {numbers[action]:,}" for action in (Action.CREATE, Action.UPDATE, Action.DELETE) if numbers[action]]
    listed = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return f"{listed.capitalize()} schedule{'' if len(steps) == 1 else 's'}?"


def _show(steps: Sequence[Step], tenant: str) -> None:
    """What differs, key by key, and remarks about the rest."""
    for step in steps:
        if step.differs:
            _show_step(step, tenant)
    for step in steps:
        if step.unread:
            remark(f"{_name(step, tenant)}: its payload is hidden, and was not compared (needs the right to read payloads)")
    same = sum(not step.differs for step in steps)
    if same:
        remark(f"{count(same, 'schedule')} as the file says")
    if not steps:
        remark("the file has no schedules")


def _show_step(step: Step, tenant: str) -> None:
    sign, style = _SIGNS[step.action]
    line((f"{sign} {_name(step, tenant)}", style))
    for key, before, after in step.changes:
        if before:
            line((f"    - {key} = {before}", "red"))
        if after:
            line((f"    + {key} = {after}", "green"))
    if step.action is Action.REFUSE:
        remark(f"{_name(step, tenant)}: {_FROM_CODE}")


def _name(step: Step, tenant: str) -> str:
    return step.schedule_id if step.tenant == tenant else f"{step.tenant}/{step.schedule_id}"


def _view(step: Step) -> dict[str, Any]:
    changes = []
    for key, before, after in step.changes:
        values = {"key": key, "before": before, "after": after}
        changes.append({name: value for name, value in values.items() if value})
    return {"scheduleId": step.schedule_id, "tenant": step.tenant, "action": step.action.value, "changes": changes}


def _result(step: Step, failed: Failures) -> dict[str, Any]:
    return {"error": failed[step.key].message} if step.key in failed else {"result": DONE[step.action]}
