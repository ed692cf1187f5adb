"""The command that submits jobs: one, copies of one, or a file of them."""

from __future__ import annotations

from typing import BinaryIO

import click
import grpc

from sickbay.client.errors import fault_of_call
from sickbay.jobs.v1.job_pb2 import PRIORITY_UNSPECIFIED, Priority
from sickbay.jobs.v1.job_service_pb2 import ON_OPEN_REJECT, ON_OPEN_UNSPECIFIED, SubmitJobRequest, SubmitJobResponse
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.server.rest.views import accepted_view
from sickbay_cli import bulk, client, options
from sickbay_cli.exit_codes import WAITING_CODES
from sickbay_cli.following import follow, wait_limit
from sickbay_cli.jobs import now
from sickbay_cli.later import due, later, set_run_time
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import document, record, remark
from sickbay_cli.payload import PAYLOAD
from sickbay_cli.retrying import Retries

_EXAMPLES = examples(
    """sickbay submit email '{"to": "user@example.com"}'""",
    "sickbay submit report @report.json --key report-2024-05 --wait",
    """echo '{"id": 7}' | sickbay submit sms -""",
    "sickbay submit email --wait --for 60s || echo exit code $?",
    "sickbay submit email --count 20",
    "sickbay submit --from jobs.jsonl",
    "sickbay submit --from jobs.jsonl --retry-for 10m",
    "sickbay submit sms --priority high",
    "sickbay submit sms --reject-if-open || echo try another way",
    "sickbay submit email --in 10m",
    "sickbay submit email --at 2027-01-01T08:00+01:00",
)


@click.command(epilog=f"{_EXAMPLES}\n\n{WAITING_CODES}")
@click.argument("job_type", required=False)
@click.argument("payload", required=False, type=PAYLOAD)
@click.option("--key", default="", help="Idempotency key: a repeat within 24 hours is the same job, not another one.")
@options.tenant_name
@click.option("--reject-if-open", is_flag=True, help="Reject the job (exit code 4) instead of parking it while its circuit is open.")
@click.option("--priority", type=options.PRIORITY, default=PRIORITY_UNSPECIFIED, help="How urgent it is; the default is normal.")
@later
@options.retry_for
@click.option("--wait", is_flag=True, help="Follow the job until it has ended; the exit code says how.")
@options.patience
@options.even_if_quarantined
@click.option("--count", "copies", type=click.IntRange(min=1), default=1, help="Submit this many copies.")
@click.option("--from", "source", type=click.File("rb"), metavar="FILE.jsonl", help="Submit every line of a file (- is stdin).")
@options.endpoints("jobapi")
@options.as_json
def submit(
    *,
    job_type: str | None,
    payload: str | None,
    key: str,
    tenant: str,
    reject_if_open: bool,
    priority: Priority.ValueType,
    delay: int | None,
    run_at: int | None,
    retry_for: int | None,
    copies: int,
    source: BinaryIO | None,
    jobapi: Endpoint,
    wait: bool,
    patience: int | None,
    even_if_quarantined: bool,
    as_json: bool,
) -> None:
    """Submit a job, copies of it, or a file of jobs.

    PAYLOAD is a JSON object: as text, as @FILE, or - for stdin; default {}.

    A line of FILE.jsonl is {"jobType": ..., "payload": {...}}, optionally with "tenant", "priority", "idempotencyKey", "onOpen",
    and "delaySeconds" or "runAt" (as 2027-01-01T08:00:00+01:00).
    Rejected lines are reported by number; the others are accepted anyway. Lines with a key can be submitted again safely.

    With --in or --at a job is SCHEDULED until its time has come, and can be changed or cancelled until then (`sickbay scheduled`).

    Jobs that a limit rejects (429) were not accepted; with --retry-for they are submitted again when there is room.
    """
    on_open = ON_OPEN_REJECT if reject_if_open else ON_OPEN_UNSPECIFIED
    retries = Retries(retry_for)
    limit = wait_limit(patience, even_if_quarantined=even_if_quarantined, waits=wait)
    if source is not None:
        if job_type or key or tenant or wait or copies > 1:
            raise click.UsageError("--from reads everything from the file; omit JOB_TYPE, PAYLOAD, --key, --tenant, --wait and --count")
        usual = SubmitJobRequest(on_open=on_open, priority=priority)
        set_run_time(usual, delay, run_at)
        bulk.submit_file(jobapi, source, usual, retries, as_json=as_json)
        return
    if not job_type:
        raise click.UsageError("name the JOB_TYPE, or a file of jobs with --from")
    if key and copies > 1:
        raise click.UsageError("--key is for one job; omit --count, or give every line of a --from file its own key")
    request = SubmitJobRequest(
        job_type=job_type, payload_json=payload or "{}", tenant=tenant, request_id=key, on_open=on_open, priority=priority
    )
    set_run_time(request, delay, run_at)
    if copies > 1:
        ids = bulk.submit_copies(jobapi, request, copies, retries, quiet=wait, as_json=as_json)
        with client.jobs(jobapi) as stub:
            if wait:
                follow(stub, ids, limit, as_json=as_json)
        return
    with client.jobs(jobapi) as stub:
        job_id = _submit(stub, request, jobapi.timeout, retries, as_json=as_json, lines=wait)
        if wait:
            follow(stub, [job_id], limit, as_json=as_json)


def _submit(stub: JobServiceStub, request: SubmitJobRequest, timeout: float, retries: Retries, *, as_json: bool, lines: bool) -> str:
    """Submit one job, print the result as in REST, and return its id; `lines` if more follows."""
    reply = _call(stub, request, timeout, retries)
    if as_json:
        (record if lines else document)(accepted_view(reply))
    else:
        click.echo(f"accepted {reply.job.job_id}{due(reply.job, now())}" + (" (it had already been accepted)" if reply.duplicate else ""))
        if reply.HasField("breaker"):
            remark(f"{reply.job.job_type}: {reply.breaker.note}")
    return reply.job.job_id


def _call(stub: JobServiceStub, request: SubmitJobRequest, timeout: float, retries: Retries) -> SubmitJobResponse:
    again = retries.of_call()
    while True:
        try:
            return stub.SubmitJob(request, timeout=timeout)
        except grpc.RpcError as error:
            pause = again.delay(fault_of_call(error), retries.now())
            if pause is None:
                raise
            retries.pause(pause)
