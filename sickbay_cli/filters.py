"""Filters of jobs in quarantine, and finding the jobs that match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

import click

from sickbay.domain.job import JobState, Reason
from sickbay.jobs.v1.job_pb2 import PRIORITY_UNSPECIFIED, Job, Priority
from sickbay.jobs.v1.quarantine_service_pb2 import ListQuarantinedJobsRequest, QuarantinedJob
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay_cli import options
from sickbay_cli.output import pages


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters that must all match; empty ones are ignored. `min_age` is in milliseconds."""

    job_type: str
    tenant: str
    state: str | None
    reason: str | None
    code: str
    fingerprint: str
    min_age: int | None
    priority: Priority.ValueType = PRIORITY_UNSPECIFIED

    def __bool__(self) -> bool:
        """Whether any filter is set."""
        return any(getattr(self, one.name) not in {"", None, PRIORITY_UNSPECIFIED} for one in fields(self))

    def request(self, size: int, token: str) -> ListQuarantinedJobsRequest:
        """A request for a page of so many matches, from the token on."""
        request = ListQuarantinedJobsRequest(
            job_type=self.job_type,
            tenant=self.tenant,
            state=Job.State.Value(f"STATE_{self.state}") if self.state else Job.STATE_UNSPECIFIED,
            reason=QuarantinedJob.Reason.Value(f"REASON_{self.reason}") if self.reason else QuarantinedJob.REASON_UNSPECIFIED,
            error_code=self.code,
            fingerprint=self.fingerprint,
            priority=self.priority,
            page_size=size,
            page_token=token,
        )
        if self.min_age is not None:
            request.min_age.FromMilliseconds(self.min_age)
        return request


@dataclass(frozen=True, slots=True)
class Found:
    """Matching jobs, the token of the next page (empty at the end), and the total number."""

    jobs: list[QuarantinedJob]
    token: str
    total: int


def find(stub: QuarantineServiceStub, selection: Selection, limit: int, token: str, timeout: float) -> Found:
    """Up to `limit` matches, the longest waiting first."""
    total = 0

    def fetch(size: int, token: str) -> tuple[list[QuarantinedJob], str]:
        nonlocal total
        page = stub.ListQuarantinedJobs(selection.request(size, token), timeout=timeout)
        total = page.total_size
        return list(page.jobs), page.next_page_token

    jobs, token = pages(fetch, limit, token)
    return Found(jobs, token, total)


_FILTERS = (
    options.job_type,
    options.tenant,
    click.option(
        "--state",
        type=click.Choice([state.value for state in JobState if state.in_quarantine], case_sensitive=False),
        help="Only parked or only quarantined ones.",
    ),
    click.option(
        "--reason",
        type=click.Choice([one.value for one in Reason], case_sensitive=False),
        metavar="REASON",
        help=f"Only those parked or quarantined for this reason: {', '.join(one.value for one in Reason)}.",
    ),
    click.option("--code", default="", help="Only those whose last error has this code."),
    click.option("--fingerprint", default="", help="Only those of this group (see `sickbay quarantine groups`)."),
    click.option(
        "--min-age", type=options.SPAN, metavar="SPAN", help="Only those that have waited for at least this long, for example 2h."
    ),
)


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the filter options; the command gets them as one `selection`, with `priority` if it has that option."""
    names = [one.name for one in fields(Selection)]

    @wraps(function)
    def command(*args: Any, **given: Any) -> Any:
        return function(*args, selection=Selection(**{name: given.pop(name) for name in names if name in given}), **given)

    decorated: Callable[..., Any] = command
    for option in reversed(_FILTERS):
        decorated = option(decorated)
    return decorated


def check_choice(job_ids: Sequence[str], selection: object, *, everything: bool) -> None:
    """Require either ids or --all: a forgotten filter must not select everything, and filters with ids would be ignored."""
    if everything and job_ids:
        raise click.UsageError("name jobs, or choose them with filters and --all, not both")
    if job_ids and selection:
        raise click.UsageError("filters need --all, and cannot be used with a JOB_ID")
    if not everything and not job_ids:
        hint = "add --all to take every job that the filters match" if selection else "name a JOB_ID, or choose jobs with filters and --all"
        raise click.UsageError(hint)
