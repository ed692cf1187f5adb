"""The command that lists the live workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

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
    Column("POOL", least=66),
    Column("SLOTS", right=True),
    Column("STARTED", least=60, right=True),
    Column("SEEN", least=74, right=True),
    Column("HOST", least=100),
    Column("VERSION", least=90),
    Column("JOB TYPES", loose=True),
)


@click.command(epilog=examples("sickbay workers", "sickbay workers --type email", "sickbay workers --json | jq .workers[].jobTypes"))
@options.job_type
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def workers(*, job_type: str, limit: int, page_token: str, control_plane: Endpoint, as_json: bool) -> None:
    """List the live workers, their slots and the job types they handle.

    A worker that stops leaves the list at once, one that was killed after 15 s. One that is DRAINING finishes its running jobs and takes
    no more.
    """
    with client.workers(control_plane) as stub:

        def fetch(size: int, token: str) -> tuple[list[Worker], str]:
            page = stub.ListWorkers(ListWorkersRequest(job_type=job_type, page_size=size, page_token=token), timeout=control_plane.timeout)
            return list(page.workers), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if as_json:
        document({"workers": list(map(worker_view, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        _show(found, now())
    else:
        remark(f"no live worker handles {job_type}" if job_type else "no worker is live")
    more("workers", len(found), token)


def _show(found: Sequence[Worker], now: int) -> None:
    table(_WORKERS, [_row(worker, now) for worker in found])


def _row(worker: Worker, now: int) -> list[Cell]:
    state: Cell = ("DRAINING", "yellow") if worker.draining else ("LIVE", "green")
    return [
        worker.name,
        state,
        worker.pool or "-",
        f"{worker.slots_in_use}/{worker.slots}",
        relative(ms(worker, "start_time"), now),
        relative(ms(worker, "last_seen_time"), now),
        worker.host,
        worker.version,
        ", ".join(worker.job_types),
    ]
