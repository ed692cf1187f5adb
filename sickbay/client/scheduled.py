"""Jobs that are to run later as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sickbay.client.jobs import Job
from sickbay.client.payload import read_payload
from sickbay.client.quarantine import PayloadRevision


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A SCHEDULED job. `payload_json` and `revisions` are empty in lists; send `etag` with a change.

    `payload_hidden`: this principal may not read payloads, so that they are left out here and in the revisions.
    """

    job: Job
    payload_json: bytes
    etag: str
    payload_hidden: bool = False
    revisions: tuple[PayloadRevision, ...] = ()
    _payload: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.job.job_id

    @property
    def run_time(self) -> datetime | None:
        """When it is due."""
        return self.job.run_time

    @property
    def payload(self) -> dict[str, Any]:
        """The payload, decoded at first use; ValueError if it is not a JSON object, as in lists, where it is empty."""
        if self._payload is None:
            object.__setattr__(self, "_payload", read_payload(self.payload_json))
        return self._payload  # type: ignore[return-value]  # set just above
