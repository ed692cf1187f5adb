"""The commands about jobs that are to run later: list, show, edit, run, cancel."""

from __future__ import annotations

import click

from sickbay.jobs.v1.job_pb2 import PRIORITY_UNSPECIFIED, Job, Priority
from sickbay.jobs.v1.scheduled_job_service_pb2 import (
    CancelScheduledJobRequest,
    GetScheduledJobRequest,
    RunScheduledJobRequest,
    UpdateScheduledJobRequest,
)
from sickbay.server.rest.views import job_view, render
from sickbay_cli import client, options
from sickbay_cli.bulk_calls import BulkCalls
from sickbay_cli.editor import edit_payload, save_draft
from sickbay_cli.exit_codes import Refused
from sickbay_cli.filters import check_choice
from sickbay_cli.format import ms
from sickbay_cli.jobs import now
from sickbay_cli.later import later, set_run_time
from sickbay_cli.moments import at_and_when
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import confirm, count, document, more, remark
from sickbay_cli.payload import PAYLOAD, pretty
from sickbay_cli.scheduled_filters import Selection, filters, find, select
from sickbay_cli.tables import HIDDEN, show_scheduled_job, show_scheduled_jobs

_job_ids = click.argument("job_ids", metavar="[JOB_ID...]", nargs=-1)
_everything = click.option("--all", "everything", is_flag=True, help="All jobs that the filters match.")


@click.group()
def scheduled() -> None:
    """Manage jobs that are to run later.

    They are SCHEDULED: submitted with --in or --at, or of a schedule with jitter. No queue holds them; the control plane sends each to the
    workers when it is due. Until then they can be changed, run at once, or cancelled.
    """


@scheduled.command("list", epilog=examples("sickbay scheduled list", "sickbay scheduled list --type email --before 2027-01-01T08:00"))
@filters
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def list_(*, selection: Selection, limit: int, page_token: str, control_plane: Endpoint, as_json: bool) -> None:
    """List jobs that are to run later, those that are due first first."""
    with client.scheduled_jobs(control_plane) as stub:
        found, token = find(stub, selection, limit, page_token, control_plane.timeout)
    if as_json:
        document({"jobs": list(map(render, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        show_scheduled_jobs([one.job for one in found], now())
    else:
        remark("no scheduled jobs match" if selection else "no jobs are scheduled")
    more("jobs", len(found), token)


@scheduled.command(epilog=examples("sickbay scheduled show JOB_ID", "sickbay scheduled show JOB_ID --json | jq .payload"))
@click.argument("job_id")
@options.endpoints("control-plane")
@options.as_json
def show(*, job_id: str, control_plane: Endpoint, as_json: bool) -> None:
    """Show one job with its payload and history."""
    with client.scheduled_jobs(control_plane) as stub:
        found = stub.GetScheduledJob(GetScheduledJobRequest(job_id=job_id), timeout=control_plane.timeout).job
    if as_json:
        document(render(found))
    else:
        show_scheduled_job(found, pretty(found.payload_json), now())


_EDIT_EXAMPLES = examples(
    "sickbay scheduled edit JOB_ID --in 2h",
    "sickbay scheduled edit JOB_ID --at 2027-01-01T08:00+01:00 --priority high",
    "sickbay scheduled edit JOB_ID --edit",
    "sickbay scheduled edit --type email --before 2027-01-01T08:00 --all --at 2027-01-01T08:00",
)


@scheduled.command(epilog=_EDIT_EXAMPLES)
@_job_ids
@filters
@_everything
@later
@click.option("--payload", type=PAYLOAD, help="Another payload: JSON text, @FILE, or - for stdin. One JOB_ID only.")
@click.option("--edit", is_flag=True, help="Change the payload in $EDITOR. One JOB_ID only.")
@click.option("--skip-validation", is_flag=True, help="Take a payload that does not fit the schema of its job type.")
@click.option("--priority", "priority", type=options.PRIORITY, default=PRIORITY_UNSPECIFIED, help="Give them this priority.")
@options.yes
@options.actor
@options.endpoints("control-plane")
@options.as_json
def edit(
    *,
    job_ids: tuple[str, ...],
    selection: Selection,
    everything: bool,
    delay: int | None,
    run_at: int | None,
    payload: str | None,
    edit: bool,
    skip_validation: bool,
    priority: Priority.ValueType,
    yes: bool,
    actor: str,
    control_plane: Endpoint,
    as_json: bool,
) -> None:
    """Change when jobs run, their priority, or the payload of one.

    Name them, or choose them by filters and --all. What is not given stays as it is.
    """
    check_choice(job_ids, selection, everything=everything)
    if (payload is not None or edit) and len(job_ids) != 1:
        raise click.UsageError("--payload and --edit need exactly one JOB_ID")
    if payload is not None and edit:
        raise click.UsageError("use either --payload or --edit, not both")
    if skip_validation and payload is None and not edit:
        raise click.UsageError("--skip-validation is for another payload: give --payload or --edit with it")
    if delay is None and run_at is None and payload is None and not edit and not priority:
        raise click.UsageError("say what to change: --in, --at, --payload, --edit or --priority")
    change = UpdateScheduledJobRequest(priority=priority, actor=actor, skip_validation=skip_validation)
    set_run_time(change, delay, run_at)
    if payload is not None:
        change.payload_json = payload
    if edit:
        _edit_payload(job_ids[0], change, control_plane, as_json=as_json)
        return
    changed: list[Job] = []
    with client.scheduled_jobs(control_plane) as stub:
        etags = select(stub, job_ids, selection, control_plane)
        if everything and etags:
            confirm(f"Change {count(len(etags), 'job')}?", yes=yes, as_json=as_json)

        def call(job_id: str) -> Job:
            one = UpdateScheduledJobRequest(job_id=job_id, etag=etags[job_id])
            one.MergeFrom(change)
            found = stub.UpdateScheduledJob(one, timeout=control_plane.timeout).job.job
            changed.append(found)
            return found

        BulkCalls("changed", control_plane, as_json=as_json).run(list(etags), call, alone=len(job_ids) == 1)
    if len(changed) == 1 and not as_json:
        click.echo(f"it runs at {at_and_when(ms(changed[0], 'run_time'), now())}")


@scheduled.command(epilog=examples("sickbay scheduled run JOB_ID", "sickbay scheduled run --type email --all"))
@_job_ids
@filters
@_everything
@options.yes
@options.actor
@options.endpoints("control-plane")
@options.as_json
def run(
    *,
    job_ids: tuple[str, ...],
    selection: Selection,
    everything: bool,
    yes: bool,
    actor: str,
    control_plane: Endpoint,
    as_json: bool,
) -> None:
    """Run jobs now instead of later.

    Name them, or choose them by filters and --all.
    """
    check_choice(job_ids, selection, everything=everything)
    with client.scheduled_jobs(control_plane) as stub:
        etags = select(stub, job_ids, selection, control_plane)
        if everything and etags:
            confirm(f"Run {count(len(etags), 'job')} now?", yes=yes, as_json=as_json)

        def call(job_id: str) -> Job:
            request = RunScheduledJobRequest(job_id=job_id, etag=etags[job_id], actor=actor)
            return stub.RunScheduledJob(request, timeout=control_plane.timeout).job

        BulkCalls("queued", control_plane, as_json=as_json).run(list(etags), call, alone=len(job_ids) == 1)


@scheduled.command(epilog=examples("sickbay scheduled cancel JOB_ID", "sickbay scheduled cancel --schedule nightly --all --yes"))
@_job_ids
@filters
@_everything
@options.yes
@options.actor
@options.endpoints("control-plane")
@options.as_json
def cancel(
    *,
    job_ids: tuple[str, ...],
    selection: Selection,
    everything: bool,
    yes: bool,
    actor: str,
    control_plane: Endpoint,
    as_json: bool,
) -> None:
    """Cancel jobs before they run.

    Name them, or choose them by filters and --all, which asks first unless --yes or --json is given.
    """
    check_choice(job_ids, selection, everything=everything)
    with client.scheduled_jobs(control_plane) as stub:
        etags = select(stub, job_ids, selection, control_plane)
        if everything and etags:
            confirm(f"Cancel {count(len(etags), 'job')}?", yes=yes, as_json=as_json)

        def call(job_id: str) -> Job:
            request = CancelScheduledJobRequest(job_id=job_id, etag=etags[job_id], actor=actor)
            return stub.CancelScheduledJob(request, timeout=control_plane.timeout).job

        BulkCalls("cancelled", control_plane, as_json=as_json).run(list(etags), call, alone=len(job_ids) == 1)


def _edit_payload(job_id: str, change: UpdateScheduledJobRequest, endpoint: Endpoint, *, as_json: bool) -> None:
    """Read, edit, and update with the etag that was read. No connection is open while the editor is."""
    with client.scheduled_jobs(endpoint) as stub:
        found = stub.GetScheduledJob(GetScheduledJobRequest(job_id=job_id), timeout=endpoint.timeout).job
    if found.payload_hidden:
        raise Refused(f"the payload is {HIDDEN}; --payload replaces it unseen")
    change.payload_json, change.etag, change.job_id = edit_payload(found.payload_json), found.etag, job_id
    try:
        with client.scheduled_jobs(endpoint) as stub:
            job = stub.UpdateScheduledJob(change, timeout=endpoint.timeout).job.job
    except click.ClickException:
        remark(f"your edit is kept: look at the job again, then change it with --payload @{save_draft(change.payload_json)}")
        raise
    if as_json:
        document(job_view(job))
    else:
        click.echo(f"changed {job.job_id}\nit runs at {at_and_when(ms(job, 'run_time'), now())}")
