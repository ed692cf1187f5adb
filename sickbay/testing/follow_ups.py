"""The jobs that a handler submits while a test runs it: they are noted, and go nowhere."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sickbay.domain.errors import SubmitError
from sickbay.domain.follow_up import NewFollowUp
from sickbay.domain.job import NAME_PATTERN, is_name, new_job_id
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.priority import Priority


@dataclass(frozen=True, slots=True)
class Submitted:
    """A follow-up job. `key` is its idempotency key, the same in every run of the job that submitted it.

    It is to run `delay` seconds later, or at `run_at`; at once if both are None.
    """

    job_id: str
    job_type: str
    payload: Any
    tenant: str
    priority: Priority
    key: str
    delay: float | None = None
    run_at: datetime | None = None


def submitted(asked: NewFollowUp) -> Submitted:
    """What a worker would submit. Raises SubmitError for what could never be."""
    from sickbay.client.errors import SickbayError  # noqa: PLC0415 - tests without follow-up jobs do not load the client and gRPC
    from sickbay.client.payload import named, payload_text  # noqa: PLC0415 - as above
    from sickbay.client.when import set_run_time  # noqa: PLC0415 - as above
    from sickbay.jobs.v1.job_service_pb2 import SubmitJobRequest  # noqa: PLC0415 - as above

    try:
        job_type, content = named(asked.job_type, asked.payload)
        payload = json.loads(payload_text(content))
    except (SickbayError, ValueError) as error:
        raise SubmitError("INVALID_PAYLOAD", error, kind=OutcomeKind.DATA) from None
    if not isinstance(payload, dict):
        raise SubmitError("INVALID_PAYLOAD", "the payload must be a JSON object", kind=OutcomeKind.DATA)
    for what, name in (("job type", job_type), ("tenant", asked.tenant)):
        if not is_name(name):
            raise SubmitError("INVALID_FIELD", f"the {what} must match {NAME_PATTERN}, not {name!r:.100}", kind=OutcomeKind.DATA)
    if asked.priority not in set(Priority):
        raise SubmitError("INVALID_FIELD", f"the priority must be HIGH, NORMAL or LOW, not {asked.priority!r:.100}", kind=OutcomeKind.DATA)
    try:
        set_run_time(SubmitJobRequest(), asked.delay, asked.run_at)
    except SickbayError as error:
        raise SubmitError("INVALID_FIELD", error, kind=OutcomeKind.DATA) from None
    delay = asked.delay.total_seconds() if isinstance(asked.delay, timedelta) else asked.delay
    job_id = new_job_id(time.time_ns() // 1_000_000)
    return Submitted(job_id, job_type, payload, asked.tenant, Priority(asked.priority), asked.request_id, delay, asked.run_at)
