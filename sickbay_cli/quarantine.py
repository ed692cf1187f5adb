"""The commands about jobs in quarantine: list, show and groups here, resubmit and discard in `redrive.py`."""

from __future__ import annotations

import click

from sickbay.jobs.v1.quarantine_service_pb2 import FailureGroup, GetQuarantinedJobRequest, ListFailureGroupsRequest
from sickbay.server.rest.views import failure_group_view, quarantined_view
from sickbay_cli import client, options
from sickbay_cli.filters import Selection, filters, find
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import document, more, pages, remark
from sickbay_cli.payload import pretty
from sickbay_cli.redrive import discard, resubmit
from sickbay_cli.tables import show_groups, show_quarantined_job, show_quarantined_jobs


@click.group()
def quarantine() -> None:
    """Manage parked and quarantined jobs.

    Parked jobs are not at fault: their circuit was open, and they come back by themselves. Quarantined ones need a person: see why they
    failed (groups, show), then resubmit or discard them. They are kept until then, however long that takes.
    """


quarantine.add_command(resubmit)
quarantine.add_command(discard)


@quarantine.command(
    "list",
    epilog=examples(
        "sickbay quarantine list",
        "sickbay quarantine list --state quarantined --code VALIDATION_ERROR",
        "sickbay quarantine list --min-age 2h --json",
    ),
)
@filters
@options.priority
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def list_(*, selection: Selection, limit: int, page_token: str, control_plane: Endpoint, as_json: bool) -> None:
    """List parked and quarantined jobs, longest waiting first."""
    with client.quarantine(control_plane) as stub:
        found = find(stub, selection, limit, page_token, control_plane.timeout)
    if as_json:
        token = {"nextPageToken": found.token} if found.token else {}
        document({"count": found.total, "jobs": list(map(quarantined_view, found.jobs))} | token)
    elif found.jobs:
        show_quarantined_jobs(found.jobs, now())
    else:
        remark("no parked or quarantined jobs match" if selection else "no jobs are parked or quarantined")
    more("jobs", len(found.jobs), found.token, found.total)


@quarantine.command(epilog=examples("sickbay quarantine show JOB_ID", "sickbay quarantine show JOB_ID --json | jq .payload"))
@click.argument("job_id")
@options.endpoints("control-plane")
@options.as_json
def show(*, job_id: str, control_plane: Endpoint, as_json: bool) -> None:
    """Show one job with payload, edits and history."""
    with client.quarantine(control_plane) as stub:
        case = stub.GetQuarantinedJob(GetQuarantinedJobRequest(job_id=job_id), timeout=control_plane.timeout).job
    if as_json:
        document(quarantined_view(case))
    else:
        show_quarantined_job(case, pretty(case.payload_json), now())


@quarantine.command(epilog=examples("sickbay quarantine groups", "sickbay quarantine groups --type email --json"))
@options.job_type
@options.tenant
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def groups(*, job_type: str, tenant: str, limit: int, page_token: str, control_plane: Endpoint, as_json: bool) -> None:
    """Group parked and quarantined jobs by probable cause.

    Jobs with the same type, error code and shape of message are one line. Bring a group back with
    `sickbay quarantine resubmit --fingerprint FINGERPRINT --all`.
    """
    with client.quarantine(control_plane) as stub:

        def fetch(size: int, token: str) -> tuple[list[FailureGroup], str]:
            query = ListFailureGroupsRequest(job_type=job_type, tenant=tenant, page_size=size, page_token=token)
            page = stub.ListFailureGroups(query, timeout=control_plane.timeout)
            return list(page.groups), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if as_json:
        document({"groups": list(map(failure_group_view, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        show_groups(found, now())
    else:
        remark("no jobs are parked or quarantined")
    more("groups", len(found), token)
