"""The commands that take jobs out of quarantine: resubmit (back to the queue) and discard (permanently)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from sickbay.jobs.v1.job_pb2 import PRIORITY_UNSPECIFIED, Job, Priority
from sickbay.jobs.v1.quarantine_service_pb2 import DiscardJobRequest, GetQuarantinedJobRequest, ResubmitJobRequest
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay.server.rest.views import job_view
from sickbay_cli import client, options
from sickbay_cli.bulk_calls import BulkCalls
from sickbay_cli.editor import edit_payload, save_draft
from sickbay_cli.filters import Selection, check_choice, filters, find
from sickbay_cli.format import name
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import confirm, count, document, remark
from sickbay_cli.payload import PAYLOAD

_job_ids = click.argument("job_ids", metavar="[JOB_ID...]", nargs=-1)
_everything = click.option("--all", "everything", is_flag=True, help="All jobs that the filters match.")

_RESUBMIT_EXAMPLES = examples(
    "sickbay quarantine resubmit JOB_ID",
    "sickbay quarantine resubmit JOB_ID --edit",
    "sickbay quarantine resubmit JOB_ID --payload @fixed.json",
    "sickbay quarantine resubmit JOB_ID --priority high",
    "sickbay quarantine resubmit --type email --code VALIDATION_ERROR --all",
)


@click.command(epilog=_RESUBMIT_EXAMPLES)
@_job_ids
@filters
@_everything
@click.option("--payload", type=PAYLOAD, help="A corrected payload: JSON text, @FILE, or - for stdin. One JOB_ID only.")
@click.option("--edit", is_flag=True, help="Correct the payload in $EDITOR. One JOB_ID only.")
@click.option("--skip-validation", is_flag=True, help="Take a corrected payload that does not fit the schema of its job type.")
@click.option("--job-type", "new_type", default="", help="A corrected job type.")
@click.option("--priority", "new_priority", type=options.PRIORITY, default=PRIORITY_UNSPECIFIED, help="Give them this priority.")
@options.yes
@options.actor
@options.endpoints("control-plane")
@options.as_json
def resubmit(
    *,
    job_ids: tuple[str, ...],
    selection: Selection,
    payload: str | None,
    new_type: str,
    new_priority: Priority.ValueType,
    actor: str,
    control_plane: Endpoint,
    everything: bool,
    edit: bool,
    skip_validation: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Put jobs back into the queue, with all their retries.

    Name them, or choose them by filters and --all. Every edit of a payload is kept: who, when, before and after. It must fit the schema
    of its job type if a worker has announced one (`sickbay types`), unless you --skip-validation.
    """
    check_choice(job_ids, selection, everything=everything)
    if (payload is not None or edit) and len(job_ids) != 1:
        raise click.UsageError("--payload and --edit need exactly one JOB_ID")
    if payload is not None and edit:
        raise click.UsageError("use either --payload or --edit, not both")
    if skip_validation and payload is None and not edit:
        raise click.UsageError("--skip-validation is for a corrected payload: give --payload or --edit with it")
    request = ResubmitJobRequest(job_type=new_type, priority=new_priority, actor=actor, skip_validation=skip_validation)
    if payload is not None:
        request.payload_json = payload
    if edit:
        _resubmit_edited(job_ids[0], request, control_plane, as_json=as_json)
        return
    with client.quarantine(control_plane) as stub:
        etags = _select(stub, job_ids, selection, control_plane)
        if everything and etags:
            anew = f" with priority {name(Priority, new_priority, 'PRIORITY_')}" if new_priority else ""
            confirm(f"Resubmit {count(len(etags), 'job')}{anew}?", yes=yes, as_json=as_json)

        def call(job_id: str) -> Job:
            one = ResubmitJobRequest(job_id=job_id, etag=etags[job_id])
            one.MergeFrom(request)
            return stub.ResubmitJob(one, timeout=control_plane.timeout).job

        BulkCalls("resubmitted", control_plane, as_json=as_json).run(list(etags), call, alone=len(job_ids) == 1)


@click.command(epilog=examples("sickbay quarantine discard JOB_ID", "sickbay quarantine discard --fingerprint 3f2a91c07d5e --all --yes"))
@_job_ids
@filters
@_everything
@options.yes
@options.actor
@options.endpoints("control-plane")
@options.as_json
def discard(
    *, job_ids: tuple[str, ...], selection: Selection, actor: str, control_plane: Endpoint, everything: bool, yes: bool, as_json: bool
) -> None:
    """Discard jobs for good.

    Name them, or choose them by filters and --all. Asks first, unless --yes or --json is given; without a terminal it needs --yes.
    """
    check_choice(job_ids, selection, everything=everything)
    with client.quarantine(control_plane) as stub:
        etags = _select(stub, job_ids, selection, control_plane)
        if etags:
            confirm(f"Discard {count(len(etags), 'job')} for good?", yes=yes, as_json=as_json)

        def call(job_id: str) -> Job:
            request = DiscardJobRequest(job_id=job_id, etag=etags[job_id], actor=actor)
            return stub.DiscardJob(request, timeout=control_plane.timeout).job

        BulkCalls("discarded", control_plane, as_json=as_json).run(list(etags), call, alone=len(job_ids) == 1)


def _select(stub: QuarantineServiceStub, job_ids: Sequence[str], selection: Selection, endpoint: Endpoint) -> dict[str, str]:
    """Ids with the etags that were read, empty for named ids: `--all` must not affect jobs that have changed since."""
    if job_ids:
        return dict.fromkeys(job_ids, "")
    found = find(stub, selection, sys.maxsize, "", endpoint.timeout)
    return {case.job.job_id: case.etag for case in found.jobs}


def _resubmit_edited(job_id: str, request: ResubmitJobRequest, endpoint: Endpoint, *, as_json: bool) -> None:
    """Read, edit, and resubmit with the etag that was read. No connection is open while the editor is."""
    with client.quarantine(endpoint) as stub:
        case = stub.GetQuarantinedJob(GetQuarantinedJobRequest(job_id=job_id), timeout=endpoint.timeout).job
    request.payload_json, request.etag, request.job_id = edit_payload(case.payload_json), case.etag, job_id
    try:
        with client.quarantine(endpoint) as stub:
            job = stub.ResubmitJob(request, timeout=endpoint.timeout).job
    except click.ClickException:
        remark(f"your edit is kept: look at the job again, then submit it with --payload @{save_draft(request.payload_json)}")
        raise
    if as_json:
        document(job_view(job))
    else:
        click.echo(f"resubmitted {job.job_id}")
