"""The commands about submitted jobs: get, watch, jobs, cancel."""

from __future__ import annotations

import time

import click

from sickbay.domain.job import JobState
from sickbay.jobs.v1.job_pb2 import Job, Priority
from sickbay.jobs.v1.job_service_pb2 import CancelJobRequest, GetJobRequest, ListJobsRequest
from sickbay.server.rest.views import job_view
from sickbay_cli import client, options
from sickbay_cli.bulk_calls import BulkCalls
from sickbay_cli.exit_codes import WAITING_CODES
from sickbay_cli.following import WaitLimit, follow
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import document, more, pages, remark
from sickbay_cli.tables import is_to_end, show_job, show_jobs


@click.command(epilog=examples("sickbay get 0197c5e0-7d3a-7c3e-9f5b-2f1e6a4b8c9d", "sickbay get JOB_ID --json"))
@click.argument("job_id")
@options.endpoints("jobapi")
@options.as_json
def get(*, job_id: str, jobapi: Endpoint, as_json: bool) -> None:
    """Show one job with its history."""
    with client.jobs(jobapi) as stub:
        job = stub.GetJob(GetJobRequest(job_id=job_id), timeout=jobapi.timeout).job
    if as_json:
        document(job_view(job))
    else:
        show_job(job, now())


_WATCH_EXAMPLES = examples(
    "sickbay watch JOB_ID", "sickbay watch JOB_ID && echo done", "sickbay watch JOB_ID --for 10m", "sickbay watch JOB_ID --json"
)


@click.command(epilog=f"{_WATCH_EXAMPLES}\n\n{WAITING_CODES}")
@click.argument("job_id")
@options.patience
@options.even_if_quarantined
@options.endpoints("jobapi")
@options.as_json
def watch(*, job_id: str, patience: int | None, even_if_quarantined: bool, jobapi: Endpoint, as_json: bool) -> None:
    """Follow a job until it has ended.

    Prints its state now and then every change. A parked job comes back by itself: the command waits with it. A quarantined one needs a
    person, and the command ends, unless --even-if-quarantined is given. --timeout does not count here.
    """
    with client.jobs(jobapi) as stub:
        follow(stub, [job_id], WaitLimit.of(patience, even_if_quarantined=even_if_quarantined), as_json=as_json)


_LIST_EXAMPLES = examples(
    "sickbay jobs",
    "sickbay jobs --type email --state parked --state quarantined",
    "sickbay jobs --priority high",
    "sickbay jobs --json --limit 1000",
)


@click.command(epilog=_LIST_EXAMPLES)
@options.job_type
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in JobState], case_sensitive=False),
    help="Only jobs in this state; may be given several times.",
)
@options.tenant
@options.priority
@options.limit
@options.page_token
@options.endpoints("jobapi")
@options.as_json
def jobs(
    *,
    job_type: str,
    states: tuple[str, ...],
    tenant: str,
    priority: Priority.ValueType,
    limit: int,
    page_token: str,
    jobapi: Endpoint,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    wanted = [Job.State.Value(f"STATE_{state}") for state in states]
    with client.jobs(jobapi) as stub:

        def fetch(size: int, token: str) -> tuple[list[Job], str]:
            query = ListJobsRequest(job_type=job_type, tenant=tenant, states=wanted, priority=priority, page_size=size, page_token=token)
            page = stub.ListJobs(query, timeout=jobapi.timeout)
            return list(page.jobs), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if as_json:
        document({"jobs": list(map(job_view, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        show_jobs(found, now())
    else:
        remark("no jobs match")
    more("jobs", len(found), token)


@click.command(epilog=examples("sickbay cancel JOB_ID", "sickbay cancel JOB_ID JOB_ID JOB_ID"))
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@options.endpoints("jobapi")
@options.as_json
def cancel(*, job_ids: tuple[str, ...], jobapi: Endpoint, as_json: bool) -> None:
    """Cancel jobs.

    The handler of a job that is running is asked to end; unless it completes successfully all the same, the job is then CANCELLED and
    does not run again. A job that has ended can no longer be cancelled.
    """
    going_on: list[str] = []

    def call(job_id: str) -> Job:
        job = stub.CancelJob(CancelJobRequest(job_id=job_id), timeout=jobapi.timeout).job
        if is_to_end(job):
            going_on.append(job_id)
        return job

    with client.jobs(jobapi) as stub:
        work = BulkCalls("cancelled", jobapi, as_json=as_json, verb_of=lambda job: _ASKED if job.job_id in going_on else "cancelled")
        try:
            work.run(job_ids, call, alone=len(job_ids) == 1)
        finally:
            if going_on and len(job_ids) > 1:
                remark(f"{len(going_on):,} of them still run, and were asked to end: {', '.join(going_on[:_NAMED])}")


_ASKED = "asked to end, and still running:"
_NAMED = 5
"""How many jobs that still run are named."""


def now() -> int:
    """The current time in milliseconds, for ages."""
    return time.time_ns() // 1_000_000
