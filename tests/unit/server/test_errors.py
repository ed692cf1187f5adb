"""The table from errors to status codes, and faults on their way through statuses."""

import grpc
import pytest

from sickbay.contract.faults import Fault, batch_fault, quota_of, received
from sickbay.domain import errors
from sickbay.domain.errors import ErrorReason
from sickbay.jobs.v1.error_reason_pb2 import ErrorReason as ReasonMessage
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitError
from sickbay.server.errors import CODES, INTERNAL, batch_error, fault_of, rich_status

TOO_FAST = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "m", "SUBMISSION_RATE_EXCEEDED", 0.5, errors.Quota("tenant", 100, 60, 7))


def _tree(kind=errors.SickbayError):
    return {kind}.union(*(_tree(child) for child in kind.__subclasses__()))


def test_the_table_is_total():
    """Every class of the tree has its own line; tests' subclasses are not of the tree."""
    assert {kind for kind in _tree() if kind.__module__ == "sickbay.domain.errors"} == set(CODES)


def test_the_reasons_are_those_of_the_contract():
    names = {name.removeprefix("ERROR_REASON_") for name in ReasonMessage.keys()}  # noqa: SIM118 - an enum wrapper, no dictionary
    names -= {"UNSPECIFIED"}
    assert names == {reason.value for reason in ErrorReason}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.InvalidArgument("m"), Fault(grpc.StatusCode.INVALID_ARGUMENT, "m", "INVALID_FIELD")),
        (errors.InvalidArgument("m", ErrorReason.PAYLOAD_TOO_LARGE), Fault(grpc.StatusCode.INVALID_ARGUMENT, "m", "PAYLOAD_TOO_LARGE")),
        (errors.NotFound("m"), Fault(grpc.StatusCode.NOT_FOUND, "m", "JOB_NOT_FOUND")),
        (errors.AlreadyExists("m"), Fault(grpc.StatusCode.ALREADY_EXISTS, "m", "IDEMPOTENCY_KEY_REUSED")),
        (errors.Aborted("m"), Fault(grpc.StatusCode.ABORTED, "m", "ETAG_MISMATCH")),
        (errors.FailedPrecondition("m"), Fault(grpc.StatusCode.FAILED_PRECONDITION, "m", "WRONG_STATE")),
        (errors.Unavailable("m", retry_after=2.5), Fault(grpc.StatusCode.UNAVAILABLE, "m", "BACKEND_UNAVAILABLE", 2.5)),
        (errors.SettingsError("m"), Fault(grpc.StatusCode.FAILED_PRECONDITION, "m", "NOT_CONFIGURED")),
        (errors.SickbayError("m"), INTERNAL),
        (ValueError("secret"), INTERNAL),
    ],
)
def test_what_clients_may_know(error, expected):
    assert fault_of(error) == expected


def test_a_subclass_goes_by_its_parent():
    class Odd(errors.NotFound):
        pass

    assert fault_of(Odd("m")).code is grpc.StatusCode.NOT_FOUND


def _raised(fault: Fault) -> grpc.aio.AioRpcError:
    status = rich_status(fault)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), status.details)


@pytest.mark.parametrize(
    "fault",
    [INTERNAL, Fault(grpc.StatusCode.UNAVAILABLE, "m", "SHUTTING_DOWN", 0.25), Fault(grpc.StatusCode.UNKNOWN, "m"), TOO_FAST],
)
def test_a_fault_survives_the_way(fault):
    assert received(_raised(fault)) == fault


def test_foreign_errors_have_no_reason():
    bare = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata(("a", "b")), None)
    assert received(bare) == Fault(grpc.StatusCode.CANCELLED, "")
    broken = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    assert received(grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), broken, "m")) == Fault(grpc.StatusCode.ABORTED, "m")


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault(grpc.StatusCode.ABORTED, "m", reason.value) for reason in ErrorReason),
        Fault(grpc.StatusCode.UNKNOWN, "m"),
        Fault(grpc.StatusCode.UNAVAILABLE, "m", "CIRCUIT_OPEN", 42.5),
        TOO_FAST,
    ],
)
def test_a_fault_survives_a_batch(fault):
    assert batch_fault(batch_error(fault)) == fault


def test_a_batch_error_has_the_number_of_its_code():
    assert batch_error(Fault(grpc.StatusCode.INVALID_ARGUMENT, "m")).code == 3
    assert batch_fault(BatchSubmitError(code=77)).code is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(
    "metadata", [{}, {"limit": "tenant"}, {"limit": "tenant", "quota": "x", "windowSeconds": "1", "resetSeconds": "1"}]
)
def test_metadata_of_something_else_are_no_quota(metadata):
    assert quota_of(metadata) is None
