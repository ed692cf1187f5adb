"""Times and durations of requests, in milliseconds. Raises InvalidArgument, which names the field by `what`."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.domain.errors import InvalidArgument
from sickbay.domain.storable import LAST_MS
from sickbay.jobs.v1.job_service_pb2 import SubmitJobRequest
from sickbay.jobs.v1.scheduled_job_service_pb2 import UpdateScheduledJobRequest

MAX_DELAY_MS: Final = 3_653 * 86_400_000
"""How long a job may be delayed: ten years."""
_MAX_SECONDS: Final = 315_576_000_000
"""The range of Duration: 10,000 years."""


def span_ms(span: Duration, what: str, least: int, most: int) -> int:
    """A duration in milliseconds, within its bounds."""
    if abs(span.seconds) > _MAX_SECONDS or abs(span.nanos) >= 10**9 or span.seconds * span.nanos < 0:
        raise InvalidArgument(f"the {what} is not a valid google.protobuf.Duration")
    ms = span.seconds * 1000 + span.nanos // 1_000_000
    if not least <= ms <= most:
        raise InvalidArgument(f"the {what} must be {least / 1000:g} to {most // 1000} seconds, not {ms / 1000:g}")
    return ms


def moment_ms(moment: Timestamp, what: str) -> int:
    """A time in milliseconds since the epoch, in the years 1970 to 9999."""
    if not 0 <= moment.seconds <= LAST_MS // 1000 or not 0 <= moment.nanos < 10**9:
        raise InvalidArgument(f"the {what} must be a time in the years 1970 to 9999, such as 2027-01-01T08:00:00+01:00")
    return moment.ToMilliseconds()


def run_time(request: SubmitJobRequest | UpdateScheduledJobRequest) -> tuple[int | None, int | None]:
    """When a job is to run: so many ms from now, or at this time (ms); None for what the request does not say."""
    if request.HasField("delay") and request.HasField("run_time"):
        raise InvalidArgument("delay and run_time are two ways to say when the job is to run; send one of them")
    delay_ms = span_ms(request.delay, "delay", 0, MAX_DELAY_MS) if request.HasField("delay") else None
    return delay_ms, moment_ms(request.run_time, "run_time") if request.HasField("run_time") else None
