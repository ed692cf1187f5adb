"""The tree of the client's errors."""

from __future__ import annotations

import copy
import pickle

import grpc
import pytest

from sickbay.client import Job, errors
from sickbay.client.errors import CLASSES, SickbayError, error_of
from sickbay.client.reading import read
from sickbay.contract.faults import Fault
from sickbay.domain.errors import Quota
from tests.support.cli_services import job

OF_JOBS = {errors.NoResult, errors.JobNotSucceeded, errors.ResultNotKept}
QUOTA = Quota("tenant", 100, 60, 7)


def test_every_status_code_has_a_class():
    assert set(CLASSES) == set(grpc.StatusCode)


def test_every_class_is_of_the_tree_and_is_exported():
    import sickbay.client

    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SickbayError)}
    assert kinds == {SickbayError, errors.CircuitOpen, *OF_JOBS, *CLASSES.values()}
    assert {kind.__name__ for kind in kinds} <= set(sickbay.client.__all__)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE", errors.Unavailable),
        (grpc.StatusCode.UNAVAILABLE, "CIRCUIT_OPEN", errors.CircuitOpen),
        (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND", errors.NotFound),
        (grpc.StatusCode.ABORTED, "ETAG_MISMATCH", errors.Conflict),
        (grpc.StatusCode.INTERNAL, "", errors.ServerFault),
    ],
)
def test_a_fault_becomes_an_error(code, reason, kind):
    error = error_of(Fault(code, "what is wrong", reason, 2.5, QUOTA))
    assert type(error) is kind
    assert (str(error), error.message, error.reason, error.code) == ("what is wrong", "what is wrong", reason, code.name)
    assert (error.retry_after, error.quota) == (2.5, QUOTA)


def test_an_error_without_a_message_says_at_least_its_code():
    assert str(error_of(Fault(grpc.StatusCode.DATA_LOSS, ""))) == "the call failed with DATA_LOSS, without a message"


@pytest.mark.parametrize("kind", [errors.CircuitOpen, *set(CLASSES.values())])
@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301 - our own
def test_an_error_can_be_pickled(kind, copied):
    error = kind("m", reason="R", code="ABORTED", retry_after=1.5, quota=QUOTA)
    again = copied(error)
    assert type(again) is kind
    assert (again.args, vars(again)) == (error.args, vars(error))


@pytest.mark.parametrize("kind", OF_JOBS)
def test_an_error_of_a_job_can_be_pickled_with_it(kind):
    error = kind("m", read(job(state="CANCELLED"), Job))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is kind
    assert (again.job, again.message, again.code) == (error.job, "m", "FAILED_PRECONDITION")
