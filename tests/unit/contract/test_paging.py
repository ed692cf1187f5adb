"""Page sizes and page tokens."""

import pytest

from sickbay.breakers.v1.breaker_service_pb2 import ListBreakersRequest
from sickbay.contract.paging import Paging, next_page_token, parse_paging
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.jobs.v1.job_pb2 import JOB_VIEW_FULL, Job
from sickbay.jobs.v1.job_service_pb2 import ListJobsRequest
from sickbay.jobs.v1.quarantine_service_pb2 import ListFailureGroupsRequest, ListQuarantinedJobsRequest

LISTINGS = [ListJobsRequest, ListQuarantinedJobsRequest, ListFailureGroupsRequest, ListBreakersRequest]


@pytest.mark.parametrize("kind", LISTINGS)
@pytest.mark.parametrize(("size", "limit"), [(0, 50), (1, 1), (1000, 1000)])
def test_page_sizes(kind, size, limit):
    assert parse_paging(kind(page_size=size)) == Paging(limit, "")


@pytest.mark.parametrize("size", [-1, 1001, -(2**31), 2**31 - 1])
def test_bad_page_sizes(size):
    with pytest.raises(InvalidArgument, match="1 to 1,000"):
        parse_paging(ListJobsRequest(page_size=size))


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_token_continues_its_query_with_any_page_size(kind):
    token = next_page_token(kind(tenant="acme"), "1700,ä/+?id")
    assert token.replace("-", "").replace("_", "").isalnum()
    assert parse_paging(kind(tenant="acme", page_size=7, page_token=token)) == Paging(7, "1700,ä/+?id")


def test_no_cursor_no_token():
    assert next_page_token(ListJobsRequest(), "") == ""


def test_neither_view_nor_order_of_states_changes_the_query():
    first = ListJobsRequest(states=[Job.STATE_PARKED, Job.STATE_QUEUED])
    again = ListJobsRequest(states=[Job.STATE_QUEUED, Job.STATE_PARKED], view=JOB_VIEW_FULL, page_token=next_page_token(first, "c"))
    assert parse_paging(again).cursor == "c"


GOOD = next_page_token(ListJobsRequest(job_type="email"), "cursor")


@pytest.mark.parametrize(
    "request_",
    [
        ListJobsRequest(page_token=GOOD),
        ListJobsRequest(job_type="email", tenant="acme", page_token=GOOD),
        ListJobsRequest(job_type="email", states=[Job.STATE_PARKED], page_token=GOOD),
        ListFailureGroupsRequest(job_type="email", page_token=GOOD),
        ListJobsRequest(job_type="email", page_token=GOOD[:8]),
        ListJobsRequest(job_type="email", page_token="x" + GOOD[1:]),
        ListJobsRequest(job_type="email", page_token=GOOD + "é"),
        ListJobsRequest(job_type="email", page_token=GOOD[:1]),
        ListJobsRequest(job_type="email", page_token="A" * 3000),
        ListJobsRequest(job_type="email", page_token=GOOD + "\n"),
    ],
)
def test_a_token_of_another_query_is_refused(request_):
    with pytest.raises(InvalidArgument) as caught:
        parse_paging(request_)
    assert caught.value.reason is ErrorReason.INVALID_PAGE_TOKEN


GIVEN_BEFORE = "PFRVRWQbEjNj"
"""A token that the release without principals gave."""


@pytest.mark.parametrize("other", ["", "bob", "an", "anna"])
def test_a_token_belongs_to_its_principal(other: str):
    token = next_page_token(ListJobsRequest(job_type="email"), "cursor", "ann")
    assert parse_paging(ListJobsRequest(job_type="email", page_token=token), "ann").cursor == "cursor"
    with pytest.raises(InvalidArgument) as error:
        parse_paging(ListJobsRequest(job_type="email", page_token=token), other)
    assert error.value.reason is ErrorReason.INVALID_PAGE_TOKEN


def test_tokens_of_before_access_control_are_as_they_were():
    assert next_page_token(ListJobsRequest(), "c", "") == GIVEN_BEFORE
