"""The command that explains a job or a breaker: why it does not run, since when, and what happens next."""

from __future__ import annotations

from typing import Any

import click

from sickbay.breakers.v1.breaker_service_pb2 import ExplainBreakerRequest
from sickbay.breakers.v1.explanation_pb2 import BreakerExplanation
from sickbay.jobs.v1.explanation_pb2 import JobExplanation
from sickbay.jobs.v1.job_service_pb2 import ExplainJobRequest
from sickbay.server.rest.views import render
from sickbay_cli import client, options
from sickbay_cli.format import breaker_state, job_state, ms, name, other_tenant, when
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import Cell, details, document


@click.command(epilog=examples("sickbay explain JOB_ID", "sickbay explain --type email", "sickbay explain JOB_ID --json   # for programs"))
@click.argument("job_id", required=False, default="")
@click.option("--type", "job_type", default="", help="Explain the breaker of this job type instead of a job.")
@click.option("--tenant", default="", help="With --type: the tenant whose jobs it decides about.")
@options.endpoints("jobapi", "control-plane")
@options.as_json
def explain(*, job_id: str, job_type: str, tenant: str, jobapi: Endpoint, control_plane: Endpoint, as_json: bool) -> None:
    """Explain why a job or a job type does not run.

    Says what it is doing or what it waits for, since when, what happens next and when, and which commands may help.
    """
    if bool(job_id) == bool(job_type):
        raise click.UsageError("name either a JOB_ID or a job type (--type)")
    if tenant and not job_type:
        raise click.UsageError("--tenant is for --type; a JOB_ID says enough")
    if job_type:
        with client.breakers(control_plane) as breakers:
            request = ExplainBreakerRequest(job_type=job_type, tenant=tenant)
            found = breakers.ExplainBreaker(request, timeout=control_plane.timeout).explanation
        document(render(found)) if as_json else _show_breaker(found)
        return
    with client.jobs(jobapi) as jobs:
        explained = jobs.ExplainJob(ExplainJobRequest(job_id=job_id), timeout=jobapi.timeout).explanation
    document(render(explained)) if as_json else _show_job(explained)


def _show_job(explained: JobExplanation) -> None:
    _show(
        explained,
        [
            ("job", explained.job_id),
            ("type", explained.job_type),
            ("tenant", other_tenant(explained.tenant)),
            ("state", job_state(explained.state)),
        ],
    )


def _show_breaker(explained: BreakerExplanation) -> None:
    breaker = explained.breaker
    _show(
        explained,
        [
            ("type", breaker.job_type),
            ("tenant", other_tenant(breaker.tenant)),
            ("state", breaker_state(breaker.state)),
            ("parked", f"{explained.parked_jobs:,}" if explained.parked_jobs else ""),
        ],
    )


def _show(explained: Any, what: list[tuple[str, Cell]]) -> None:
    time = now()
    details(
        [
            *what,
            ("reason", name(explained.Reason, explained.reason, "REASON_")),
            ("since", when(ms(explained, "since_time"), time)),
            ("next", name(explained.NextStep, explained.next_step, "NEXT_STEP_")),
            ("at", when(ms(explained, "next_time"), time)),
            ("why", "\n".join(explained.sentences)),
            ("commands", "\n".join(explained.commands)),
        ]
    )
