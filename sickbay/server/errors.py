"""The mapping from errors to gRPC status codes, and `Fault`: an error in transit between domain, gRPC and REST.

Clients get the status code, the message, google.rpc.ErrorInfo{reason, domain "sickbay"} and, if retrying later helps, RetryInfo. If a rate
is exceeded, the metadata of ErrorInfo say which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sickbay.domain.errors import (
    Aborted,
    AlreadyExists,
    ErrorReason,
    FailedPrecondition,
    InvalidArgument,
    MissingSetting,
    NotFound,
    Quota,
    Refused,
    ResourceExhausted,
    SettingsError,
    SickbayError,
    Unavailable,
    Unstorable,
)
from sickbay.jobs.v1 import error_reason_pb2, job_service_pb2

DOMAIN: Final = "sickbay"
INTERNAL_MESSAGE: Final = "internal error; see the service's log"
_DETAILS_KEY: Final = "grpc-status-details-bin"

CODES: Final[Mapping[type[SickbayError], grpc.StatusCode]] = MappingProxyType(
    {
        SickbayError: grpc.StatusCode.INTERNAL,
        InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
        Unstorable: grpc.StatusCode.INVALID_ARGUMENT,
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

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as clients see it. `reason` is empty if the server sent none; `retry_after` is in seconds, None if unset.

    `quota` is that of a rate that is exceeded.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    retry_after: float | None = None
    quota: Quota | None = None

    @property
    def number(self) -> int:
        """The status code as a number."""
        return int(self.code.value[0])


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
    return Fault(code, str(error), error.reason.value, retry_after, error.quota if isinstance(error, ResourceExhausted) else None)


def received(error: grpc.aio.AioRpcError) -> Fault:
    """The fault of an error that a stub raised, over the network or in process."""
    code, message = error.code(), error.details() or ""
    fault = Fault(code, message)
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            fault = _with_details(fault, value)
    return fault


def _with_details(fault: Fault, data: bytes) -> Fault:
    reason, wait, quota = "", None, None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    try:
        details = status_pb2.Status.FromString(data).details
        for detail in details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                reason, quota = info.reason, quota_of(info.metadata)
            elif detail.Unpack(retry):
                wait = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    except DecodeError:
        return fault
    return Fault(fault.code, fault.message, reason, wait, quota)


def rich_status(fault: Fault) -> grpc.Status:
    """The fault as the argument of `context.abort_with_status`."""
    status = status_pb2.Status(code=fault.number, message=fault.message)
    if fault.reason:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN, metadata=metadata_of(fault.quota)))
    if fault.retry_after is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=_delay(fault)))
    return rpc_status.to_status(status)  # type: ignore[no-any-return]  # the library has no types


def batch_error(fault: Fault) -> job_service_pb2.BatchSubmitError:
    """The fault of one item of a batch."""
    reason = error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{fault.reason or 'UNSPECIFIED'}")
    return job_service_pb2.BatchSubmitError(
        code=fault.number, reason=reason, message=fault.message, retry_delay=_delay(fault), metadata=metadata_of(fault.quota)
    )


def batch_fault(error: job_service_pb2.BatchSubmitError) -> Fault:
    """The reverse of `batch_error`."""
    reason = error_reason_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_") if error.reason else ""
    wait = error.retry_delay.ToMilliseconds() / 1000 if error.HasField("retry_delay") else None
    return Fault(_BY_NUMBER.get(error.code, grpc.StatusCode.UNKNOWN), error.message, reason, wait, quota_of(error.metadata))


def metadata_of(quota: Quota | None) -> Mapping[str, str]:
    """A quota as the metadata of an ErrorInfo."""
    if quota is None:
        return {}
    numbers = {"quota": quota.quota, "windowSeconds": quota.window_s, "resetSeconds": quota.reset_s}
    return {"limit": quota.limit} | {name: str(number) for name, number in numbers.items()}


def quota_of(metadata: Mapping[str, str]) -> Quota | None:
    """The reverse of `metadata_of`; None if they are of something else."""
    try:
        return Quota(metadata["limit"], *(int(metadata[name]) for name in ("quota", "windowSeconds", "resetSeconds")))
    except (KeyError, ValueError):
        return None


def _delay(fault: Fault) -> Duration | None:
    if fault.retry_after is None:
        return None
    seconds, rest = divmod(round(fault.retry_after * 1000), 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)
