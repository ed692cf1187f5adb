"""Jobs in quarantine as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sickbay.client.jobs import Job
from sickbay.client.payload import read_payload
from sickbay.domain.job import JobState


@dataclass(frozen=True, slots=True)
class PayloadRevision:
    """An edit of a payload: when, by whom, and the JSON text before and after."""

    time: datetime
    actor: str
    before_json: bytes
    after_json: bytes


@dataclass(frozen=True, slots=True)
class QuarantinedJob:
    """A parked or quarantined job. `payload_json` and `revisions` are empty in lists; send `etag` with an edit.

    `payload_hidden`: this principal may not read payloads, so that they are left out here and in the revisions.

    `reason` is a name of the contract's `QuarantinedJob.Reason`, an open set.
    """

    job: Job
    reason: str
    quarantine_time: datetime | None
    payload_json: bytes
    etag: str
    fingerprint: str
    revisions: tuple[PayloadRevision, ...]
    payload_hidden: bool = False
    _payload: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.job.job_id

    @property
    def state(self) -> JobState:
        """PARKED or QUARANTINED."""
        return self.job.state

    @property
    def payload(self) -> dict[str, Any]:
        """The payload, decoded at first use; ValueError if it is not a JSON object, as in lists, where it is empty."""
        if self._payload is None:
            object.__setattr__(self, "_payload", read_payload(self.payload_json))
        return self._payload  # type: ignore[return-value]  # set just above


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Jobs in quarantine that probably have the same cause: `count` of them, with one as a sample."""

    job_type: str
    error_code: str
    fingerprint: str
    sample_message: str
    sample_job_id: str
    count: int
    first_time: datetime | None
    last_time: datetime | None
