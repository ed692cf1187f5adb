"""The command that requeues lost jobs: those in the ledger that are in no queue."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Final

import click
import grpc

from sickbay.jobs.v1.quarantine_service_pb2 import RequeuedJob, RequeueJobsRequest
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay.server.rest.views import requeued_view
from sickbay_cli import client, options
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import confirm, count, document, pages, progress, remark

_DONE: Final = {RequeuedJob.OUTCOME_REQUEUED: "requeued", RequeuedJob.OUTCOME_DISCARDED: "discarded"}
_AT_ONCE: Final = 100
_SHOWN: Final = 10
"""Reasons shown one by one; the others are only counted."""

_EXAMPLES: Final = examples(
    "sickbay requeue --dry-run",
    "sickbay requeue --all",
    "sickbay requeue --type email --min-age 10m --all",
    "sickbay requeue JOB_ID JOB_ID",
    "sickbay requeue --all --discard-without-payload",
)


@click.command(epilog=_EXAMPLES)
@click.argument("job_ids", metavar="[JOB_ID...]", nargs=-1)
@options.job_type
@options.tenant
@click.option("--min-age", type=options.SPAN, metavar="SPAN", help="Only those without an event for this long; default 60s.")
@click.option("--all", "everything", is_flag=True, help="All unfinished jobs that the filters match.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--even-if-waiting", is_flag=True, help="Also while queues hold messages. A copy that reappears later is dropped.")
@click.option("--discard-without-payload", is_flag=True, help="Discard those whose payload the ledger does not have.")
@options.yes
@options.actor
@options.endpoints("control-plane")
@options.as_json
def requeue(
    *,
    job_ids: tuple[str, ...],
    job_type: str,
    tenant: str,
    min_age: int | None,
    actor: str,
    control_plane: Endpoint,
    everything: bool,
    dry_run: bool,
    even_if_waiting: bool,
    discard_without_payload: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Requeue jobs that are in the ledger but in no queue.

    When somebody has purged or deleted a queue, its jobs stay QUEUED, RETRYING or RUNNING forever. This publishes them again; a
    job that a worker runs, or whose copy may still wait in a queue, is left alone. Try --dry-run first.
    """
    if bool(job_ids) == (everything or (dry_run and not job_ids)):
        raise click.UsageError("name a JOB_ID, or choose jobs with filters and --all")
    request = RequeueJobsRequest(
        job_ids=job_ids,
        job_type=job_type,
        tenant=tenant,
        actor=actor,
        even_if_waiting=even_if_waiting,
        discard_without_payload=discard_without_payload,
        validate_only=True,
    )
    if min_age is not None:
        request.min_age.FromMilliseconds(min_age)
    with client.quarantine(control_plane) as stub:
        jobs = _ask(stub, request, control_plane)
        can_be = [one for one in jobs if _can_be_done(one, request)]
        if can_be and not dry_run:
            confirm(f"Bring {count(len(can_be), 'job')} back?", yes=yes, as_json=as_json)
            request.validate_only = False
            jobs = [one for one in jobs if one not in can_be] + _carry_out(stub, request, can_be, control_plane)
    _show(jobs, as_json=as_json)


def _carry_out(
    stub: QuarantineServiceStub, request: RequeueJobsRequest, chosen: list[RequeuedJob], endpoint: Endpoint
) -> list[RequeuedJob]:
    """Name the jobs, and ignore waiting messages: those are the ones that were requeued first."""
    done: list[RequeuedJob] = []
    in_flight: list[str] = []
    try:
        with progress(len(chosen), "requeueing") as advance:
            for begin in range(0, len(chosen), _AT_ONCE):
                in_flight = [one.job.job_id for one in chosen[begin : begin + _AT_ONCE]]
                named = RequeueJobsRequest(job_ids=in_flight, even_if_waiting=True)
                named.discard_without_payload, named.actor = request.discard_without_payload, request.actor
                if request.HasField("min_age"):
                    named.min_age.CopyFrom(request.min_age)
                done += stub.RequeueJobs(named, timeout=endpoint.timeout).jobs
                advance(len(in_flight))
                in_flight = []
    except (KeyboardInterrupt, grpc.RpcError):
        _report_interruption(done, in_flight, len(chosen))
        raise
    return done


def _report_interruption(done: list[RequeuedJob], in_flight: list[str], total: int) -> None:
    """Print what was done before the interruption; repeating is safe, because a requeued job is no longer lost."""
    counts = Counter(one.outcome for one in done)
    counts_text = [f"{verb} {counts[outcome]:,}" for outcome, verb in _DONE.items() if counts[outcome]] or ["none requeued"]
    unsure = f", {count(len(in_flight), 'job')} may or may not have been" if in_flight else ""
    remark(f"stopped: of {count(total, 'job')} {', '.join(counts_text)}{unsure}; run it again for the others")


def _ask(stub: QuarantineServiceStub, request: RequeueJobsRequest, endpoint: Endpoint) -> list[RequeuedJob]:
    def fetch(size: int, token: str) -> tuple[list[RequeuedJob], str]:
        asked = RequeueJobsRequest(page_size=min(size, _AT_ONCE), page_token=token)
        asked.MergeFrom(request)
        reply = stub.RequeueJobs(asked, timeout=endpoint.timeout)
        return list(reply.jobs), reply.next_page_token

    found, _ = pages(fetch, sys.maxsize, "")
    return found


def _can_be_done(one: RequeuedJob, request: RequeueJobsRequest) -> bool:
    is_lost = one.outcome == RequeuedJob.OUTCOME_NO_PAYLOAD and request.discard_without_payload
    return is_lost or one.outcome == RequeuedJob.OUTCOME_REQUEUEABLE


def _show(jobs: list[RequeuedJob], *, as_json: bool) -> None:
    if as_json:
        document({"jobs": list(map(requeued_view, jobs))})
        return
    counts = Counter(one.outcome for one in jobs)
    if counts[RequeuedJob.OUTCOME_REQUEUEABLE]:
        click.echo(f"would requeue {count(counts[RequeuedJob.OUTCOME_REQUEUEABLE], 'job')}")
    for outcome, verb in _DONE.items():
        if counts[outcome]:
            click.echo(f"{verb} {count(counts[outcome], 'job')}")
    if not jobs:
        click.echo("no job matches")
    alone = [one for one in jobs if one.outcome not in {*_DONE, RequeuedJob.OUTCOME_REQUEUEABLE}]
    for one in alone[:_SHOWN]:
        remark(f"{one.job.job_id}: {RequeuedJob.Outcome.Name(one.outcome).removeprefix('OUTCOME_')}: {one.message}")
    if alone:
        click.echo(f"left {count(len(alone), 'job')} alone")
