"""The command that hands jobs in: one, copies of one, or a file of them."""

from __future__ import annotations

from typing import BinaryIO

import click

from gen.sickbay.jobs.v1.job_pb2 import Job
from gen.sickbay.jobs.v1.job_service_pb2 import SubmitJobRequest
from gen.sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.rpc.views import accepted_view
from sickbay_cli import bulk, client, options
from sickbay_cli.failures import Unsuccessful
from sickbay_cli.jobs import follow
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import count, document, record
from sickbay_cli.payload import PAYLOAD

_EXAMPLES = examples(
    """sickbay submit email '{"to": "user@example.com"}'""",
    "sickbay submit report @report.json --key report-2024-05 --wait",
    """echo '{"id": 7}' | sickbay submit sms -""",
    "sickbay submit email --count 20",
    "sickbay submit --from jobs.jsonl",
)


@click.command(epilog=_EXAMPLES)
@click.argument("job_type", required=False)
@click.argument("payload", required=False, type=PAYLOAD)
@click.option("--key", default="", help="Idempotency key: a repeat within 24 hours is the same job, not another one.")
@options.whose
@click.option("--wait", is_flag=True, help="Follow the job until it has ended; the exit code tells how.")
@click.option("--count", "copies", type=click.IntRange(min=1), default=1, help="Hand in so many copies.")
@click.option("--from", "source", type=click.File("rb"), metavar="FILE.jsonl", help="Hand in every line of a file (- is stdin).")
@options.endpoints("jobapi")
@options.as_json
def submit(
    *,
    job_type: str | None,
    payload: str | None,
    key: str,
    tenant: str,
    copies: int,
    source: BinaryIO | None,
    jobapi: Endpoint,
    wait: bool,
    as_json: bool,
) -> None:
    """Hand in a job, copies of it, or a file of jobs.

    PAYLOAD is a JSON object: as text, as @FILE, or - for stdin; {} if left out.

    A line of FILE.jsonl is {"jobType": ..., "payload": {...}}, if you like with "tenant" and "idempotencyKey". Lines that are refused
    are told with their numbers; the others are accepted all the same. Lines with a key can be sent again without harm.
    """
    if source is not None:
        if job_type or key or tenant or wait or copies > 1:
            raise click.UsageError(
                "--from takes everything from the file; leave out JOB_TYPE, PAYLOAD, --key, --tenant, --wait and --count"
            )
        bulk.submit_file(jobapi, source, as_json=as_json)
        return
    if not job_type:
        raise click.UsageError("name the JOB_TYPE, or a file of jobs with --from")
    if key and copies > 1:
        raise click.UsageError("--key belongs to one job; leave out --count, or give every line of a --from file its own key")
    request = SubmitJobRequest(job_type=job_type, payload_json=payload or "{}", tenant=tenant, request_id=key)
    if copies > 1:
        ids = bulk.submit_copies(jobapi, request, copies, quiet=wait, as_json=as_json)
        with client.jobs(jobapi) as stub:
            _wait(stub, ids if wait else [], as_json=as_json)
        return
    with client.jobs(jobapi) as stub:
        job_id = _submit(stub, request, jobapi.timeout, as_json=as_json, lines=wait)
        _wait(stub, [job_id] if wait else [], as_json=as_json)


def _submit(stub: JobServiceStub, request: SubmitJobRequest, timeout: float, *, as_json: bool, lines: bool) -> str:
    """Hand one job in, say so as REST does, and return its id; `lines` if more follows."""
    reply = stub.SubmitJob(request, timeout=timeout)
    if as_json:
        told = accepted_view(reply.job.job_type, reply.job.job_id, duplicate=reply.duplicate)
        (record if lines else document)(told)
    else:
        click.echo(f"accepted {reply.job.job_id}" + (" (it had been accepted before)" if reply.duplicate else ""))
    return reply.job.job_id


def _wait(stub: JobServiceStub, ids: list[str], *, as_json: bool) -> None:
    """Follow each to its end; Unsuccessful if any ended otherwise than SUCCEEDED."""
    states = [follow(stub, job_id, as_json=as_json) for job_id in ids]
    failed = sum(state != Job.STATE_SUCCEEDED for state in states)
    if failed == 1 == len(states):
        raise Unsuccessful(f"the job ended {Job.State.Name(states[0]).removeprefix('STATE_')}")
    if failed:
        raise Unsuccessful(f"{count(failed, 'job')} of {len(states):,} ended without success")
