"""Schemas of the bodies that `views.py` creates by hand, for `/openapi.json` and `/docs`; a test compares the two."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

_StateName = Literal["QUEUED", "RUNNING", "RETRYING", "PARKED", "QUARANTINED", "SUCCEEDED", "DISCARDED", "CANCELLED", "SCHEDULED"]
_BreakerName = Literal["CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "DISABLED", "METRICS_ONLY"]


class Strict(BaseModel):
    """A body without additional fields."""

    model_config = ConfigDict(extra="forbid")


class ViolationBody(Strict):
    """A mistake in one field of a request."""

    field: str
    message: str


class ErrorBody(Strict):
    """An error: the HTTP status, a sentence that says what to do, and a stable reason to branch on.

    If several fields of a payload can be wrong, `violations` has each.
    """

    statusCode: int
    message: str
    reason: str
    violations: list[ViolationBody] | None = None


class NoticeBody(Strict):
    """A breaker that is not CLOSED when a job is submitted: when its next probe may run (ms), and what happens to the job."""

    state: _BreakerName
    probeAt: int | None = None
    note: str


class AcceptedBody(Strict):
    """A job was accepted and is durable; `breaker` is missing if it is CLOSED."""

    status: Literal["accepted"]
    message: str
    jobType: str
    jobId: str
    duplicate: bool | None = None
    breaker: NoticeBody | None = None


class ItemErrorBody(ErrorBody):
    """The error of one job of a batch; `retryAfterSeconds` instead of the header `Retry-After`."""

    retryAfterSeconds: int | None = None


class BatchItemBody(Strict):
    """The result for one job of a batch: `jobId`, or `error`."""

    jobId: str | None = None
    duplicate: bool | None = None
    breaker: NoticeBody | None = None
    error: ItemErrorBody | None = None


class BatchBody(Strict):
    """One result for each job, in the same order."""

    accepted: int
    refused: int
    results: list[BatchItemBody]


class CodeBody(Strict):
    """An error code and how often it occurred in a row."""

    code: str
    count: int
    message: str | None = None


class ThrottledBody(Strict):
    """How many jobs per second a breaker that has just closed lets in."""

    admittedPerSecond: float


class ForcedBody(Strict):
    """Who holds a breaker, until when (ms since the epoch), and why."""

    until: int | None = None
    by: str | None = None
    why: str | None = None


class BreakerBody(Strict):
    """A breaker; its times are ms since the epoch, and fields that do not apply to its state are omitted."""

    jobType: str
    tenant: str | None = None
    dependency: str | None = None
    jobTypes: list[str] | None = None
    state: _BreakerName
    openedAt: int | None = None
    cooldownElapsed: bool | None = None
    cooldownMs: int | None = None
    probeAt: int | None = None
    probeJobId: str | None = None
    hangingProbes: int | None = None
    waitingFor: str | None = None
    trips: int | None = None
    reason: CodeBody | None = None
    failuresInRow: CodeBody | None = None
    totalFailures: int | None = None
    recentRuns: int | None = None
    recentFailureRate: float | None = None
    recovering: bool | None = None
    throttled: ThrottledBody | None = None
    forced: ForcedBody | None = None
    wouldHaveTripped: int | None = None
    degraded: bool | None = None
    redacted: bool | None = None


class BreakersBody(Strict):
    """A page of breakers, by job type; `nextPageToken` is missing on the last page."""

    count: int
    breakers: list[BreakerBody]
    nextPageToken: str | None = None


class ResetBody(Strict):
    """A breaker was reset."""

    message: str
    jobType: str
    dependency: str | None = None
    jobTypes: list[str] | None = None


class BreakerCounts(Strict):
    """The number of breakers."""

    total: int
    open: int
    closed: int


class FailureCounts(Strict):
    """All failures counted."""

    byJobType: dict[str, int]


class JobCounts(Strict):
    """The number of jobs in the ledger."""

    byState: dict[_StateName, int]


class MetricsBody(Strict):
    """Metrics of the system."""

    circuitBreakers: BreakerCounts
    failures: FailureCounts
    jobs: JobCounts
    queues: dict[str, int]
    duplicates: int


class Up(Strict):
    """The health of one part."""

    status: Literal["up", "down"]


class CheckBody(Strict):
    """One backend of a service; `failing`: only for a moment. Without a `needed` one the service cannot work."""

    status: Literal["up", "failing", "down"]
    needed: bool
    since: str | None = None
    reason: str | None = None


class HealthBody(Strict):
    """The health of a service; `degraded`: something is down, but the main work continues. `info` corresponds to the HTTP status."""

    status: Literal["ok", "degraded", "error"]
    info: dict[str, Up]
    checks: dict[str, CheckBody] | None = None
