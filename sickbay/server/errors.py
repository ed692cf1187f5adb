"""The mapping from errors to gRPC status codes, and to the `Fault` in which an error travels between domain, gRPC and REST.

Clients get the status code, the message, google.rpc.ErrorInfo{reason, domain "sickbay"} and, if retrying later helps, RetryInfo. If a rate
is exceeded, the metadata of ErrorInfo say which. If several fields can be wrong, BadRequest has each.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sickbay.contract.faults import DOMAIN, Fault
from sickbay.domain.errors import (
    Aborted,
    AlreadyExists,
    ErrorReason,
    FailedPrecondition,
    InvalidArgument,
    MissingSetting,
    NotFound,
    PermissionDenied,
    Quota,
    Refused,
    ResourceExhausted,
    SettingsError,
    SickbayError,
    Unauthenticated,
    Unavailable,
    Unstorable,
)
from sickbay.jobs.v1 import error_reason_pb2, job_service_pb2

INTERNAL_MESSAGE: Final = "internal error; see the service's log"

CODES: Final[Mapping[type[SickbayError], grpc.StatusCode]] = MappingProxyType(
    {
        SickbayError: grpc.StatusCode.INTERNAL,
        InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
        Unstorable: grpc.StatusCode.INVALID_ARGUMENT,
        Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
        PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
        NotFound: grpc.StatusCode.NOT_FOUND,
        AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
        Aborted: grpc.StatusCode.ABORTED,
        FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
        Unavailable: grpc.StatusCode.UNAVAILABLE,
        Refused: grpc.StatusCode.UNAVAILABLE,
        ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        SettingsError: grpc.StatusCode.FAILED_PRECONDITION,
        MissingSetting: grpc.StatusCode.FAILED_PRECONDITION,
    }
)
"""Every error class is listed explicitly; a test checks that."""

INTERNAL: Final = Fault(grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE, ErrorReason.INTERNAL.value)
"""What clients get for an internal error: no details."""


def fault_of(error: BaseException) -> Fault:
    """The fault that clients get: all of a SickbayError, no details of any other error."""
    if not isinstance(error, SickbayError):
        return INTERNAL
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    if code is grpc.StatusCode.INTERNAL:
        return INTERNAL
    retry_after = error.retry_after if isinstance(error, Unavailable | ResourceExhausted) else None
    quota = error.quota if isinstance(error, ResourceExhausted) else None
    violations = error.violations if isinstance(error, InvalidArgument) else ()
    return Fault(code, str(error), error.reason.value, retry_after, quota, violations)


def rich_status(fault: Fault) -> grpc.Status:
    """The fault as the argument of `context.abort_with_status`."""
    status = status_pb2.Status(code=fault.number, message=fault.message)
    if fault.reason:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN, metadata=metadata_of(fault.quota)))
    if fault.retry_after is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=_delay(fault)))
    if fault.violations:
        found = [error_details_pb2.BadRequest.FieldViolation(field=field, description=text) for field, text in fault.violations]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=found))
    return rpc_status.to_status(status)  # type: ignore[no-any-return]  # the library has no types


def batch_error(fault: Fault) -> job_service_pb2.BatchSubmitError:
    """The fault of one item of a batch."""
    reason = error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{fault.reason or 'UNSPECIFIED'}")
    return job_service_pb2.BatchSubmitError(
        code=fault.number,
        reason=reason,
        message=fault.message,
        retry_delay=_delay(fault),
        metadata=metadata_of(fault.quota),
        violations=[job_service_pb2.FieldViolation(field=field, description=text) for field, text in fault.violations],
    )


def metadata_of(quota: Quota | None) -> Mapping[str, str]:
    """A quota as the metadata of an ErrorInfo."""
    if quota is None:
        return {}
    numbers = {"quota": quota.quota, "windowSeconds": quota.window_s, "resetSeconds": quota.reset_s}
    return {"limit": quota.limit} | {name: str(number) for name, number in numbers.items()}


def _delay(fault: Fault) -> Duration | None:
    if fault.retry_after is None:
        return None
    seconds, rest = divmod(round(fault.retry_after * 1000), 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)
