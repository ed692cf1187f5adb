"""A job as a new row of the outbox, checked by the rules of the Job API, so that what it would never accept is not written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from sickbay.client.errors import invalid
from sickbay.client.job_calls import submit_request
from sickbay.client.jobs import NewJob
from sickbay.domain import errors

COLUMNS: Final = ("request_id", "job_type", "tenant", "priority", "payload", "on_open", "created_at")
"""What `submit` writes of each job, and `run_at` of one that is to run later; the relay's columns have defaults."""


def new_row(job: NewJob, now: float | None = None) -> Mapping[str, Any]:
    """The values of `COLUMNS`, with a key of our own if the job has none; `now` in seconds since the epoch, None: read the clock.

    A job that is to run later has `run_at`, too: a delay counts from now, not from when a relay comes to it. Others have no need of the
    column, which a table that an earlier version made lacks.

    InvalidRequest if no Job API would accept it: then nothing has been written, and the transaction can go on.
    """
    check = _rules()
    try:
        request = submit_request(job)
        payload = check(request).payload_json
    except errors.InvalidArgument as error:
        raise invalid(str(error), error.reason) from None
    except UnicodeEncodeError:
        raise invalid("the job has text that is not Unicode (a lone surrogate)") from None
    created_at = int((time.time() if now is None else now) * 1000)
    row = {
        "request_id": request.request_id,
        "job_type": request.job_type,
        "tenant": request.tenant,
        "priority": "" if job.priority is None else str(job.priority),
        "payload": payload.decode(),
        "on_open": "" if job.on_open is None else str(job.on_open),
        "created_at": created_at,
    }
    run_at = created_at + request.delay.ToMilliseconds() if request.HasField("delay") else request.run_time.ToMilliseconds()
    return row | {"run_at": run_at} if run_at > created_at else row


def _rules() -> Any:
    try:
        from sickbay.contract.requests import submission  # noqa: PLC0415 - needs msgspec, which the client does without
    except ModuleNotFoundError as error:
        msg = f"submitting through the outbox needs {error.name}: pip install 'sickbay[outbox]'"
        raise ModuleNotFoundError(msg, name=error.name) from None
    return submission
