"""What is posted for a job: its payload as it is, and headers that say which job, which run, and until when. Pure.

The headers are those of CloudEvents 1.0 (binary mode), Standard Webhooks and W3C Trace Context, and our own for what none of them has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from sickbay.adapters.webhook.signature import signed_headers
from sickbay.domain.job import Job
from sickbay.domain.storable import LAST_MS
from sickbay.version import VERSION

SOURCE: Final = "/sickbay"
"""`ce-source`. Ids of jobs are unique everywhere, so it need not tell one system from another."""
MAX_HEADER_CHARS: Final = 8_192
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_OURS: Final = frozenset(
    [
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ]
)
_OUR_PREFIXES: Final = ("ce-", "webhook-", "sickbay-")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def headers_of(
    job: Job, *, now: int, timeout_s: float, keys: Sequence[bytes] = (), more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The headers of one run that begins at `now` (ms) and may take `timeout_s`, signed with each key; `more` are the operator's.

    A repeat of the run, and every retry of the job, has the same `ce-id`, `webhook-id` and `Idempotency-Key`: it is the same event, and
    its effect must not happen twice. A job that was set aside and released is a new one: then a person, or time, has changed something.
    """
    event = quote(job.idempotency_key)
    message = f"{quote(job.job_id).replace('.', '%2E')}-{job.generation}"  # the dot separates the parts of what is signed
    return {
        "User-Agent": f"sickbay/{VERSION}",
        "Accept": "application/json, application/problem+json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Content-Length": str(len(job.payload_json)),
        "ce-specversion": "1.0",
        "ce-id": event,
        "ce-source": SOURCE,
        "ce-type": job.job_type,
        "ce-subject": quote(job.job_id),
        "ce-time": _rfc3339(job.submitted_at),
        "Idempotency-Key": event,
        "Sickbay-Tenant": job.tenant,
        "Sickbay-Attempt": str(job.attempt + 1),
        "Sickbay-Deadline": _rfc3339(now + round(1_000 * timeout_s)),
        "Sickbay-Timeout": f"{timeout_s:.3f}",
        **(signed_headers(keys, message, now // 1_000, job.payload_json) if keys else {"webhook-id": message}),
        **(more or {}),
    }


def header_mistake(name: str, value: str | None = None) -> str:
    """Why an operator's header cannot be sent, in words that do not show its value; empty if it can."""
    lower = name.lower()
    if _TOKEN.fullmatch(name) is None:
        return "is not the name of a header"
    if lower in _OURS or lower.startswith(_OUR_PREFIXES):
        return "is set by Sickbay itself"
    if value is not None and (len(value) > MAX_HEADER_CHARS or _VALUE.fullmatch(value) is None):
        return f"must have a value of 1 to {MAX_HEADER_CHARS:,} visible ASCII characters and blanks, without blanks at its ends"
    return ""


def _rfc3339(at: int) -> str:
    """A moment in ms, as CloudEvents writes it."""
    return (_EPOCH + timedelta(milliseconds=min(max(at, 0), LAST_MS))).isoformat(timespec="milliseconds").replace("+00:00", "Z")
