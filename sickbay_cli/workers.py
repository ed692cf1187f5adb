"""The command that lists the live workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from sickbay.domain.job import DEFAULT_TENANT
from sickbay.jobs.v1.worker_pb2 import Worker
from sickbay.jobs.v1.worker_service_pb2 import ListWorkersRequest
from sickbay.server.rest.views import worker_view
from sickbay_cli import client, options
from sickbay_cli.durations import relative
from sickbay_cli.format import ms
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import Cell, Column, document, more, pages, remark, table

_WORKERS: Final = (
    Column("NAME"),
    Column("STATE"),
    Column("SLOTS", right=True),
    Column("TENANTS", least=60),
    Column("STARTED", least=60, right=True),
    Column("SEEN", least=74, right=True),
    Column("HOST", least=100),
    Column("VERSION", least=90),
    Column("JOB TYPES", loose=True),
)
_TENANTS: Final = 3
"""So many tenants of a worker are shown in the table."""


@click.command(
    epilog=examples(
        "sickbay workers",
        "sickbay workers --type email",
        "sickbay workers --tenant acme",
        "sickbay workers --json | jq .workers[].jobTypes",
    )
)
@options.job_type
@click.option("--tenant", default="", help="Only workers that run jobs of this tenant now.")
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def workers(*, job_type: str, tenant: str, limit: int, page_token: str, control_plane: Endpoint, as_json: bool) -> None:
    """List the live workers, their slots and the job types they handle.

    A worker that stops leaves the list at once, one that was killed after 15 s. One that is DRAINING finishes its running jobs and takes
    no more.
    """
    query = ListWorkersRequest(job_type=job_type, tenant=tenant)
    with client.workers(control_plane) as stub:

        def fetch(size: int, token: str) -> tuple[list[Worker], str]:
            query.page_size, query.page_token = size, token
            page = stub.ListWorkers(query, timeout=control_plane.timeout)
            return list(page.workers), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if as_json:
        document({"workers": list(map(worker_view, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        _show(found, now())
    else:
        remark(_nothing(job_type, tenant))
    more("workers", len(found), token)


def _nothing(job_type: str, tenant: str) -> str:
    if tenant:
        return f"no live worker runs jobs of {tenant} now"
    return f"no live worker handles {job_type}" if job_type else "no worker is live"


def _show(found: Sequence[Worker], now: int) -> None:
    rows = [_row(worker, now) for worker in found]
    used = [index for index, column in enumerate(_WORKERS) if column.title != "TENANTS" or any(row[index] for row in rows)]
    table([_WORKERS[index] for index in used], [[row[index] for index in used] for row in rows])


def _row(worker: Worker, now: int) -> list[Cell]:
    state: Cell = ("DRAINING", "yellow") if worker.draining else ("LIVE", "green")
    return [
        worker.name,
        state,
        f"{worker.slots_in_use}/{worker.slots}",
        _tenants(worker),
        relative(ms(worker, "start_time"), now),
        relative(ms(worker, "last_seen_time"), now),
        worker.host,
        worker.version,
        ", ".join(worker.job_types),
    ]


def _tenants(worker: Worker) -> str:
    """The tenants with most slots; nothing if there are no tenants."""
    if all(one.tenant == DEFAULT_TENANT for one in worker.tenants):
        return ""
    shown = ", ".join(f"{one.tenant} {one.slots_in_use}" for one in worker.tenants[:_TENANTS])
    return f"{shown}, ..." if len(worker.tenants) > _TENANTS else shown
