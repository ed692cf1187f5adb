"""`Fault`: an error as clients see it, read from a failed call or from one result of a batch.

The services send the status code, the message, google.rpc.ErrorInfo{reason, domain "sickbay"} and, if retrying later helps, RetryInfo. If a
rate is exceeded, the metadata of ErrorInfo say which. If several fields can be wrong, BadRequest has each.
`sickbay.server.errors` writes what this module reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from sickbay.domain.errors import Quota
from sickbay.jobs.v1 import error_reason_pb2, job_service_pb2

DOMAIN: Final = "sickbay"
_DETAILS_KEY: Final = "grpc-status-details-bin"
_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as clients see it. `reason` is empty if the server sent none; `retry_after` is in seconds, None if unset.

    `quota` is that of a rate that is exceeded; `violations` are the single mistakes of a request, each with the path of its field.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    retry_after: float | None = None
    quota: Quota | None = None
    violations: tuple[tuple[str, str], ...] = ()

    @property
    def number(self) -> int:
        """The status code as a number."""
        return int(self.code.value[0])


def received(error: grpc.RpcError) -> Fault:
    """The fault of an error that a stub raised: synchronous or not, over the network or in process."""
    call = cast("grpc.aio.AioRpcError", error)  # the error of a synchronous call has the same three methods
    code, message = call.code(), call.details() or ""
    fault = Fault(code, message)
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            fault = _with_details(fault, value)
    return fault


def batch_fault(error: job_service_pb2.BatchSubmitError) -> Fault:
    """The fault of one item of a batch."""
    reason = _reason_name(error.reason)
    wait = error.retry_delay.ToMilliseconds() / 1000 if error.HasField("retry_delay") else None
    violations = tuple((one.field, one.description) for one in error.violations)
    code = _BY_NUMBER.get(error.code, grpc.StatusCode.UNKNOWN)
    return Fault(code, error.message, reason, wait, quota_of(error.metadata), violations)


def quota_of(metadata: Mapping[str, str]) -> Quota | None:
    """The quota in the metadata of an ErrorInfo; None if they are of something else."""
    try:
        return Quota(metadata["limit"], *(int(metadata[name]) for name in ("quota", "windowSeconds", "resetSeconds")))
    except (KeyError, ValueError):
        return None


def _with_details(fault: Fault, data: bytes) -> Fault:
    reason, wait, quota = "", None, None
    violations: tuple[tuple[str, str], ...] = ()
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    try:
        details = status_pb2.Status.FromString(data).details
        for detail in details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                reason, quota = info.reason, quota_of(info.metadata)
            elif detail.Unpack(retry):
                wait = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            elif detail.Unpack(bad):
                violations = tuple((one.field, one.description) for one in bad.field_violations)
    except DecodeError:
        return fault
    return Fault(fault.code, fault.message, reason, wait, quota, violations)


def _reason_name(number: int) -> str:
    """Without prefix; empty if there is none. A number that a newer service has added is its digits."""
    known = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_number.get(number)
    if known is None:
        return str(number)
    return known.name.removeprefix("ERROR_REASON_") if number else ""
