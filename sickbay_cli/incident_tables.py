"""Output of incidents for people: a table, and the details of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sickbay.breakers.v1.incident_pb2 import Incident, IncidentCause, IncidentEntry
from sickbay_cli.durations import moment, relative, span
from sickbay_cli.format import REDACTED, incident_kind, join_nonempty, ms, other_tenant, when
from sickbay_cli.output import Cell, Column, details, table

INCIDENTS: Final = (
    Column("ID", right=True),
    Column("TYPE"),
    Column("STATE"),
    Column("OPENED", least=50, right=True),
    Column("LASTED", least=70, right=True),
    Column("PARKED", least=80, right=True),
    Column("CAUSE", least=90, loose=True),
)


def show_incidents(incidents: Sequence[Incident], now: int) -> None:
    """Print a table of incidents."""
    table(INCIDENTS, [incident_row(incident, now) for incident in incidents])


def incident_row(incident: Incident, now: int) -> list[Cell]:
    """An incident as a row under `INCIDENTS`."""
    opened = ms(incident, "open_time")
    name = join_nonempty(" ", incident.job_type, f"({other})" if (other := other_tenant(incident.tenant)) else "")
    return [
        incident.incident_id,
        name,
        _state(incident),
        relative(opened, now),
        span(_lasted(incident, now)),
        f"{incident.parked_jobs:,}",
        _cause(incident.cause),
    ]


def show_incident(incident: Incident, now: int) -> None:
    """Print the details of one incident."""
    noted = incident.acknowledgement if incident.HasField("acknowledgement") else None
    jobs = [f"{one.job_id}" + (f"  trace {one.trace_id}" if one.trace_id else "") for one in incident.cause.jobs]
    omitted = [f"({incident.omitted_entries} entries after the first 20 are left out)"] if incident.omitted_entries else []
    details(
        [
            ("incident", incident.incident_id),
            ("type", incident.job_type),
            ("tenant", other_tenant(incident.tenant)),
            ("state", _state(incident)),
            ("opened", when(ms(incident, "open_time"), now)),
            ("closed", when(ms(incident, "close_time"), now)),
            ("lasted", span(_lasted(incident, now))),
            ("cause", _cause(incident.cause)),
            ("failed jobs", "\n".join(jobs)),
            ("parked", f"{incident.parked_jobs:,}, of which {incident.released_jobs:,} are released" if incident.parked_jobs else ""),
            ("quarantined", f"{incident.quarantined_jobs:,}" if incident.quarantined_jobs else ""),
            ("wasted runs", str(incident.wasted_runs or "")),
            ("re-opened", f"{incident.reopenings} x" if incident.reopenings else ""),
            ("acknowledged", join_nonempty(", ", when(ms(noted, "time"), now), noted.actor, noted.note) if noted else ""),
            ("left out", REDACTED if incident.redacted else ""),
            ("timeline", "\n".join([*(f"{moment(ms(entry, 'time'))}  {_entry(entry)}" for entry in incident.timeline), *omitted])),
        ]
    )


def _state(incident: Incident) -> Cell:
    return ("OPEN", "bold red") if incident.open else ("CLOSED", "green")


def _lasted(incident: Incident, now: int) -> int:
    return max(0, (ms(incident, "close_time") or now) - ms(incident, "open_time"))


def _cause(cause: IncidentCause) -> str:
    return join_nonempty(": ", f"{cause.count} x {cause.code}", cause.message)


def _entry(entry: IncidentEntry) -> str:
    why = join_nonempty(": ", entry.code, entry.message)
    return join_nonempty(
        "  ", incident_kind(entry.kind), why, f"job {entry.job_id}" if entry.job_id else "", f"by {entry.actor}" if entry.actor else ""
    )
