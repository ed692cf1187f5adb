"""What a webhook is told of an incident: a CloudEvent as JSON, with a sentence in `text` as Slack's incoming webhooks expect it.

Pure. The body is rendered once, when the incident changes, so that every repeat is the same, byte for byte.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from sickbay.domain.incident import Change, Incident
from sickbay.domain.job import DEFAULT_TENANT

SOURCE: Final = "/sickbay"
_TYPES: Final = {
    Change.OPENED: "sickbay.incident.opened",
    Change.REOPENED: "sickbay.incident.opened",
    Change.CLOSED: "sickbay.incident.closed",
}
_SLACK: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""Messages of failures are untrusted: unescaped they could address a whole channel."""
_MINUTE: Final = 60
_HOUR: Final = 3_600


def notice_id(incident: Incident, change: Change) -> str:
    """The `webhook-id`: the same for every repeat, another for each opening and closing."""
    return f"incident-{incident.number}-{change.value}-{incident.reopenings}-{incident.opened_at}"


def render_notice(incident: Incident, change: Change) -> bytes:
    """The body of a notice."""
    at = incident.closed_at if change is Change.CLOSED and incident.closed_at is not None else incident.outage_at
    event = {
        "specversion": "1.0",
        "id": notice_id(incident, change),
        "source": SOURCE,
        "type": _TYPES[change],
        "subject": incident.key.name,
        "time": _rfc3339(at),
        "datacontenttype": "application/json",
        "text": sentence(incident, change).translate(_SLACK),
        "data": _data(incident),
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def sentence(incident: Incident, change: Change) -> str:
    """The change in words, for people."""
    cause, who = incident.cause, f"Sickbay incident {incident.number}: {incident.key.name}"
    if change is Change.CLOSED:
        parked = f", {incident.jobs.parked:,} jobs were parked" if incident.jobs.parked else ""
        return f"{who} is well again after {_span(incident.recovery_ms or 0)}{parked}"
    verb = "has opened again" if change is Change.REOPENED else "has opened"
    return f"{who} {verb} after {cause.count} x {cause.code}{': ' if cause.message else ''}{cause.message}"


def _data(incident: Incident) -> dict[str, Any]:
    cause, jobs = incident.cause, incident.jobs
    data: dict[str, Any] = {
        "incidentId": str(incident.number),
        "jobType": incident.key.job_type,
        "open": incident.is_open,
        "openedAt": _rfc3339(incident.opened_at),
        "cause": {"code": cause.code, "message": cause.message, "count": cause.count, "jobIds": [job.job_id for job in cause.jobs]},
        "reopenings": incident.reopenings,
        "wastedRuns": incident.wasted_runs,
        "jobs": {"parked": jobs.parked, "released": jobs.released, "quarantined": jobs.quarantined},
    }
    if incident.key.tenant != DEFAULT_TENANT:
        data["tenant"] = incident.key.tenant
    if incident.closed_at is not None:
        data |= {"closedAt": _rfc3339(incident.closed_at), "recoverySeconds": (incident.recovery_ms or 0) / 1000}
    return data


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _span(ms: int) -> str:
    seconds = ms / 1000
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"
