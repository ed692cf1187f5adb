"""Filters of jobs that are to run later, and finding the jobs that match."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

import click

from sickbay.jobs.v1.scheduled_job_service_pb2 import ListScheduledJobsRequest, ScheduledJob
from sickbay.jobs.v1.scheduled_job_service_pb2_grpc import ScheduledJobServiceStub
from sickbay_cli import options
from sickbay_cli.moments import MOMENT, timestamp
from sickbay_cli.options import Endpoint
from sickbay_cli.output import pages


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters that must all match; empty ones are ignored. `before` is in ms."""

    job_type: str
    tenant: str
    schedule: str
    before: int | None

    def __bool__(self) -> bool:
        """Whether any filter is set."""
        return any(getattr(self, one.name) not in {"", None} for one in fields(self))


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the filter options; the command gets them as one `selection`."""

    @wraps(function)
    def command(*args: Any, job_type: str, tenant: str, schedule: str, before: int | None, **given: Any) -> Any:
        return function(*args, selection=Selection(job_type, tenant, schedule, before), **given)

    decorated: Callable[..., Any] = command
    before = click.option("--before", type=MOMENT, metavar="TIME", help="Only jobs that are due before this time.")
    schedule = click.option("--schedule", default="", help="Only jobs of this schedule.")
    for option in (before, schedule, options.tenant, options.job_type):
        decorated = option(decorated)
    return decorated


def select(stub: ScheduledJobServiceStub, job_ids: Sequence[str], selection: Selection, endpoint: Endpoint) -> dict[str, str]:
    """Ids with the etags that were read, empty for named ids: `--all` must not affect jobs that have changed since."""
    if job_ids:
        return dict.fromkeys(job_ids, "")
    found, _ = find(stub, selection, sys.maxsize, "", endpoint.timeout)
    return {one.job.job_id: one.etag for one in found}


def find(stub: ScheduledJobServiceStub, selection: Selection, limit: int, token: str, timeout: float) -> tuple[list[ScheduledJob], str]:
    """Up to `limit` matches, those that are due first first, and the token of the next page."""

    def fetch(size: int, token: str) -> tuple[list[ScheduledJob], str]:
        query = ListScheduledJobsRequest(
            job_type=selection.job_type,
            tenant=selection.tenant,
            schedule_id=selection.schedule,
            before_time=timestamp(selection.before),
            page_size=size,
            page_token=token,
        )
        page = stub.ListScheduledJobs(query, timeout=timeout)
        return list(page.jobs), page.next_page_token

    return pages(fetch, limit, token)
