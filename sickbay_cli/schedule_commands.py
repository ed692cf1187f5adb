"""The commands that change one schedule: create, update, pause, resume, trigger, backfill, delete."""

from __future__ import annotations

import click

from sickbay.schedules.v1.schedule_pb2 import Schedule, ScheduleSpec
from sickbay.schedules.v1.schedule_service_pb2 import (
    BackfillScheduleRequest,
    CreateScheduleRequest,
    DeleteScheduleRequest,
    GetScheduleRequest,
    PauseScheduleRequest,
    ResumeScheduleRequest,
    TriggerScheduleRequest,
    UpdateScheduleRequest,
)
from sickbay.server.rest.views import render
from sickbay_cli import client, options
from sickbay_cli.exit_codes import Refused
from sickbay_cli.jobs import now
from sickbay_cli.moments import MOMENT, at, timestamp
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import confirm, count, document, plain, remark
from sickbay_cli.schedule_options import Change, spec_options
from sickbay_cli.schedule_tables import next_times, show_runs, zone_of

_schedule_id = click.argument("schedule_id", metavar="NAME")
_dry_run = click.option("--dry-run", is_flag=True, help="Only check it, and print the next times.")

_CREATE_EXAMPLES = examples(
    'sickbay schedules create nightly report --cron "0 3 * * *" --timezone Europe/Berlin',
    "sickbay schedules create heartbeat ping --every 30s --overlap allow",
    """sickbay schedules create monthly invoice --cron "0 8 L * *" --payload '{"kind": "all"}' --dry-run""",
)


@click.command(epilog=_CREATE_EXAMPLES)
@_schedule_id
@click.argument("job_type")
@spec_options
@click.option("--paused", is_flag=True, help="Create it paused.")
@_dry_run
@options.tenant_name
@options.actor
@options.endpoints("control-plane")
@options.as_json
def create(
    *,
    schedule_id: str,
    job_type: str,
    change: Change,
    paused: bool,
    dry_run: bool,
    tenant: str,
    actor: str,
    control_plane: Endpoint,
    as_json: bool,
) -> None:
    """Create the schedule NAME, which submits jobs of JOB_TYPE.

    Prints its next times. NAME is unique in its tenant, and has the format of a job type.
    """
    spec = ScheduleSpec(job_type=job_type)
    change(spec)
    request = CreateScheduleRequest(schedule_id=schedule_id, tenant=tenant, spec=spec, paused=paused, validate_only=dry_run, actor=actor)
    with client.schedules(control_plane) as stub:
        made = stub.CreateSchedule(request, timeout=control_plane.timeout).schedule
    _tell(made, f"{schedule_id} is valid" if dry_run else f"created {schedule_id}", as_json=as_json)


_UPDATE_EXAMPLES = examples(
    'sickbay schedules update nightly --cron "30 3 * * *"', "sickbay schedules update nightly --no-end --jitter 10m --dry-run"
)


@click.command(epilog=_UPDATE_EXAMPLES)
@_schedule_id
@click.option("--type", "job_type", help="Another job type.")
@spec_options
@click.option("--no-start", is_flag=True, help="It has no first time any more.")
@click.option("--no-end", is_flag=True, help="It does not end any more.")
@_dry_run
@options.tenant_name
@options.actor
@options.endpoints("control-plane")
@options.as_json
def update(
    *,
    schedule_id: str,
    job_type: str | None,
    change: Change,
    no_start: bool,
    no_end: bool,
    dry_run: bool,
    tenant: str,
    actor: str,
    control_plane: Endpoint,
    as_json: bool,
) -> None:
    """Change what a schedule does. What is not given stays as it is.

    A schedule that workers announce is changed in their code instead.
    """
    with client.schedules(control_plane) as stub:
        found = stub.GetSchedule(GetScheduleRequest(schedule_id=schedule_id, tenant=tenant), timeout=control_plane.timeout).schedule
        spec = ScheduleSpec()
        spec.CopyFrom(found.spec)
        if no_start:
            spec.ClearField("start_time")
        if no_end:
            spec.ClearField("end_time")
        change(spec)
        spec.job_type = job_type or spec.job_type
        if spec == found.spec:
            raise click.UsageError("nothing would change; name what is to, as in --cron or --payload")
        if found.payload_hidden and spec.WhichOneof("content") is None:
            raise Refused("its payload is hidden, and would be lost: that needs the right to read payloads, or give it with --payload")
        request = UpdateScheduleRequest(
            schedule_id=schedule_id, tenant=tenant, spec=spec, etag=found.etag, validate_only=dry_run, actor=actor
        )
        made = stub.UpdateSchedule(request, timeout=control_plane.timeout).schedule
    _tell(made, f"{schedule_id} would be valid" if dry_run else f"updated {schedule_id}", as_json=as_json)


@click.command(epilog=examples('sickbay schedules pause nightly --note "database migration"'))
@_schedule_id
@click.option("--note", default="", help="Why, one line that everybody sees.")
@options.tenant_name
@options.actor
@options.endpoints("control-plane")
@options.as_json
def pause(*, schedule_id: str, note: str, tenant: str, actor: str, control_plane: Endpoint, as_json: bool) -> None:
    """Pause a schedule: it submits no job until it is resumed."""
    request = PauseScheduleRequest(schedule_id=schedule_id, tenant=tenant, note=note, actor=actor)
    with client.schedules(control_plane) as stub:
        found = stub.PauseSchedule(request, timeout=control_plane.timeout).schedule
    _tell(found, f"paused {schedule_id}", as_json=as_json)


@click.command(epilog=examples("sickbay schedules resume nightly"))
@_schedule_id
@options.tenant_name
@options.actor
@options.endpoints("control-plane")
@options.as_json
def resume(*, schedule_id: str, tenant: str, actor: str, control_plane: Endpoint, as_json: bool) -> None:
    """Resume a paused schedule, from now on.

    What it would have run meanwhile is not made up for; `backfill` does that.
    """
    request = ResumeScheduleRequest(schedule_id=schedule_id, tenant=tenant, actor=actor)
    with client.schedules(control_plane) as stub:
        found = stub.ResumeSchedule(request, timeout=control_plane.timeout).schedule
    _tell(found, f"resumed {schedule_id}", as_json=as_json)


@click.command(epilog=examples("sickbay schedules trigger nightly", "sickbay schedules trigger nightly --key after-incident-17"))
@_schedule_id
@click.option("--key", default="", help="Idempotency key: a repeat is the same run, not another one.")
@options.tenant_name
@options.actor
@options.endpoints("control-plane")
@options.as_json
def trigger(*, schedule_id: str, key: str, tenant: str, actor: str, control_plane: Endpoint, as_json: bool) -> None:
    """Submit a job of a schedule now, whatever its times, its state and its overlap policy."""
    request = TriggerScheduleRequest(schedule_id=schedule_id, tenant=tenant, request_id=key, actor=actor)
    with client.schedules(control_plane) as stub:
        run = stub.TriggerSchedule(request, timeout=control_plane.timeout).run
    if as_json:
        document(render(run))
    else:
        click.echo(f"triggered {schedule_id}: job {run.job_id}")


_BACKFILL_EXAMPLES = examples(
    "sickbay schedules backfill nightly --from 2027-01-01 --to 2027-01-08 --dry-run",
    "sickbay schedules backfill hourly --from 2027-01-01T06:00Z --to 2027-01-01T12:00Z --yes",
)


@click.command(epilog=_BACKFILL_EXAMPLES)
@_schedule_id
@click.option("--from", "start", type=MOMENT, required=True, metavar="TIME", help="The first time that may be made up for.")
@click.option("--to", "end", type=MOMENT, required=True, metavar="TIME", help="Times at or after this one are not.")
@click.option("--dry-run", is_flag=True, help="Only show which times there are.")
@options.yes
@options.tenant_name
@options.actor
@options.endpoints("control-plane")
@options.as_json
def backfill(
    *,
    schedule_id: str,
    start: int,
    end: int,
    dry_run: bool,
    yes: bool,
    tenant: str,
    actor: str,
    control_plane: Endpoint,
    as_json: bool,
) -> None:
    """Submit a job for each past time of a schedule that had none.

    All of them at once, whatever the overlap policy and the state, at most 1,000. Asks first, with their number. Repeating it is harmless.
    """
    request = BackfillScheduleRequest(
        schedule_id=schedule_id,
        tenant=tenant,
        start_time=timestamp(start),
        end_time=timestamp(end),
        validate_only=True,
        actor=actor,
    )
    with client.schedules(control_plane) as stub:
        found = stub.BackfillSchedule(request, timeout=control_plane.timeout)
        if found.runs and not dry_run:
            confirm(f"Submit {count(len(found.runs), 'job')} of {schedule_id}?", yes=yes, as_json=as_json)
            request.validate_only = False
            found = stub.BackfillSchedule(request, timeout=control_plane.timeout)
        if as_json:
            document({"runs": list(map(render, found.runs)), "existing": found.existing})
            return
        asked = GetScheduleRequest(schedule_id=schedule_id, tenant=tenant)
        zone = zone_of(stub.GetSchedule(asked, timeout=control_plane.timeout).schedule.spec)
    known = f"; {count(found.existing, 'time')} had a job already" if found.existing else ""
    if dry_run:
        for run in found.runs:
            click.echo(at(run.tick_time.ToMilliseconds(), zone))
        remark(f"{count(len(found.runs), 'job')} would be submitted{known}")
        return
    if found.runs:
        show_runs(found.runs, now(), zone)
    remark(f"submitted {count(len(found.runs), 'job')}{known}")


@click.command(epilog=examples("sickbay schedules delete nightly"))
@_schedule_id
@options.yes
@options.tenant_name
@options.endpoints("control-plane")
@options.as_json
def delete(*, schedule_id: str, yes: bool, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Delete a schedule and its runs; the jobs that it has submitted stay.

    Asks first, unless --yes or --json is given; without a terminal it needs --yes.
    """
    confirm(f"Delete the schedule {schedule_id} and its runs?", yes=yes, as_json=as_json)
    with client.schedules(control_plane) as stub:
        stub.DeleteSchedule(DeleteScheduleRequest(schedule_id=schedule_id, tenant=tenant), timeout=control_plane.timeout)
    if as_json:
        document({})
    else:
        click.echo(f"deleted {schedule_id}")


def _tell(one: Schedule, what: str, *, as_json: bool) -> None:
    """What was done, and the next times."""
    if as_json:
        document(render(one))
        return
    click.echo(what)
    if one.next_times:
        click.echo("it runs next at\n" + "\n".join(f"  {line}" for line in next_times(one, now()).split("\n")))
    elif one.state == Schedule.STATE_PAUSED:
        click.echo(plain(f"it is paused{f': {one.pause_note}' if one.pause_note else ''}"))
    elif one.state == Schedule.STATE_ENDED:
        click.echo("it has ended: there is no further time at which it would run")
