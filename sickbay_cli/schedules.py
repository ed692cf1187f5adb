"""The commands about schedules: list, show and runs; the others are in `schedule_commands.py` and `schedule_apply.py`."""

from __future__ import annotations

import sys

import click

from sickbay.domain.job import DEFAULT_TENANT
from sickbay.schedules.v1.schedule_pb2 import Schedule, ScheduleRun
from sickbay.schedules.v1.schedule_service_pb2 import GetScheduleRequest, ListScheduleRunsRequest, ListSchedulesRequest
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from sickbay.server.rest.views import render
from sickbay_cli import client, options
from sickbay_cli.exit_codes import Refused
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import count, document, more, pages, remark
from sickbay_cli.schedule_apply import apply, diff
from sickbay_cli.schedule_commands import backfill, create, delete, pause, resume, trigger, update
from sickbay_cli.schedule_tables import show_runs, show_schedule, show_schedules, zone_of
from sickbay_cli.schedule_text import table

_LATEST = 10
"""How many runs `show` shows."""
_as_toml = click.option("--toml", "as_toml", is_flag=True, help="Print TOML, which `sickbay schedules apply` reads.")


@click.group()
def schedules() -> None:
    """Manage schedules: jobs that are submitted again and again.

    A schedule submits a job whenever its time has come, by a cron expression in a time zone, or every so often. `create` and `update` make
    single ones; `apply` makes them be as a file says.
    """


for _one in (create, update, pause, resume, trigger, backfill, delete, apply, diff):
    schedules.add_command(_one)


_LIST_EXAMPLES = examples(
    "sickbay schedules list", "sickbay schedules list --state paused", "sickbay schedules list --toml > schedules.toml"
)


@schedules.command("list", epilog=_LIST_EXAMPLES)
@options.job_type
@options.tenant
@click.option(
    "--state",
    type=click.Choice([one.removeprefix("STATE_") for one, number in Schedule.State.items() if number], case_sensitive=False),
    help="Only those in this state.",
)
@click.option(
    "--origin",
    type=click.Choice([one.removeprefix("ORIGIN_") for one, number in Schedule.Origin.items() if number], case_sensitive=False),
    help="Only those that somebody has created (API), or that workers announce (CODE).",
)
@options.limit
@options.page_token
@_as_toml
@options.endpoints("control-plane")
@options.as_json
def list_(
    *,
    job_type: str,
    tenant: str,
    state: str | None,
    origin: str | None,
    limit: int,
    page_token: str,
    as_toml: bool,
    control_plane: Endpoint,
    as_json: bool,
) -> None:
    """List schedules by tenant and name.

    With --toml all that match are printed with everything they do, except those that workers announce; --limit does not count then.
    """
    _one_format(as_toml=as_toml, as_json=as_json)
    wanted = ListSchedulesRequest(
        tenant=tenant,
        job_type=job_type,
        state=Schedule.State.Value(f"STATE_{state}") if state else Schedule.STATE_UNSPECIFIED,
        origin=Schedule.Origin.Value(f"ORIGIN_{origin}") if origin else Schedule.ORIGIN_UNSPECIFIED,
    )
    with client.schedules(control_plane) as stub:
        if as_toml:
            _export(stub, wanted, control_plane.timeout)
            return
        found, token = find(stub, wanted, limit, page_token, control_plane.timeout)
    if as_json:
        document({"schedules": list(map(render, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        show_schedules(found, now())
    else:
        remark("no schedules match" if job_type or tenant or state or origin else "there are no schedules")
    more("schedules", len(found), token)


@schedules.command(epilog=examples("sickbay schedules show nightly", "sickbay schedules show nightly --toml"))
@click.argument("schedule_id", metavar="NAME")
@options.tenant_name
@_as_toml
@options.endpoints("control-plane")
@options.as_json
def show(*, schedule_id: str, tenant: str, as_toml: bool, control_plane: Endpoint, as_json: bool) -> None:
    """Show one schedule: what it does, its state, its next times and its latest runs."""
    _one_format(as_toml=as_toml, as_json=as_json)
    with client.schedules(control_plane) as stub:
        found = get(stub, schedule_id, tenant, control_plane.timeout)
        if as_json:
            document(render(found))
            return
        if as_toml:
            click.echo(_table(found, DEFAULT_TENANT), nl=False)
            return
        latest = ListScheduleRunsRequest(schedule_id=schedule_id, tenant=tenant, page_size=_LATEST)
        runs = stub.ListScheduleRuns(latest, timeout=control_plane.timeout)
    show_schedule(found, runs.runs, now())
    if runs.next_page_token:
        remark(f"these are its latest {len(runs.runs)} runs; `sickbay schedules runs {schedule_id}` shows more")


@schedules.command(epilog=examples("sickbay schedules runs nightly", "sickbay schedules runs nightly --outcome missed"))
@click.argument("schedule_id", metavar="NAME")
@options.tenant_name
@click.option(
    "--outcome",
    type=click.Choice([one.removeprefix("OUTCOME_") for one, number in ScheduleRun.Outcome.items() if number], case_sensitive=False),
    help="Only runs with this outcome.",
)
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def runs(
    *, schedule_id: str, tenant: str, outcome: str | None, limit: int, page_token: str, control_plane: Endpoint, as_json: bool
) -> None:
    """List the runs of a schedule, newest first: what became of each of its times. They are kept for 30 days."""
    with client.schedules(control_plane) as stub:
        spec = None if as_json else get(stub, schedule_id, tenant, control_plane.timeout).spec

        def fetch(size: int, token: str) -> tuple[list[ScheduleRun], str]:
            query = ListScheduleRunsRequest(
                schedule_id=schedule_id,
                tenant=tenant,
                outcome=ScheduleRun.Outcome.Value(f"OUTCOME_{outcome}") if outcome else ScheduleRun.OUTCOME_UNSPECIFIED,
                page_size=size,
                page_token=token,
            )
            page = stub.ListScheduleRuns(query, timeout=control_plane.timeout)
            return list(page.runs), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if spec is None:
        document({"runs": list(map(render, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        show_runs(found, now(), zone_of(spec))
    else:
        remark("no runs match" if outcome else "it has not run yet")
    more("runs", len(found), token)


def get(stub: ScheduleServiceStub, schedule_id: str, tenant: str, timeout: float) -> Schedule:
    """A schedule with its payload."""
    return stub.GetSchedule(GetScheduleRequest(schedule_id=schedule_id, tenant=tenant), timeout=timeout).schedule


def find(stub: ScheduleServiceStub, wanted: ListSchedulesRequest, limit: int, token: str, timeout: float) -> tuple[list[Schedule], str]:
    """Up to `limit` schedules without payloads, and the token of the next page."""

    def fetch(size: int, token: str) -> tuple[list[Schedule], str]:
        request = ListSchedulesRequest(page_size=size, page_token=token)
        request.MergeFrom(wanted)
        page = stub.ListSchedules(request, timeout=timeout)
        return list(page.schedules), page.next_page_token

    return pages(fetch, limit, token)


def _export(stub: ScheduleServiceStub, wanted: ListSchedulesRequest, timeout: float) -> None:
    """All of them as TOML; those of the tenant that was asked for are of [schedules]."""
    found, _ = find(stub, wanted, sys.maxsize, "", timeout)
    ours = [one for one in found if one.origin != Schedule.ORIGIN_CODE]
    tables = [_table(get(stub, one.schedule_id, one.tenant, timeout), wanted.tenant or DEFAULT_TENANT) for one in ours]
    click.echo("\n".join(tables), nl=False)
    if len(ours) < len(found):
        remark(f"{count(len(found) - len(ours), 'schedule')} left out: they are announced by workers, and changed in their code")


def _table(one: Schedule, own_tenant: str) -> str:
    if one.payload_hidden:
        raise Refused(f"the payload of {one.schedule_id} is hidden: exporting schedules needs the right to read payloads")
    return table(one, own_tenant)


def _one_format(*, as_toml: bool, as_json: bool) -> None:
    if as_toml and as_json:
        raise click.UsageError("use either --toml or --json, not both")
