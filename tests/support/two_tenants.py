"""A system with access control in which two tenants have jobs in every state, groups, incidents and breakers.

Everything of the tenant `bbb` has that word in it, so that a reply of anybody else in which it occurs has leaked something.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import controlplane.app
import jobapi.app
from sickbay.domain.access import Principal, Role
from sickbay.domain.audit import AuditEntry
from sickbay.domain.breaker import Action, BreakerKey, Command
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.result import Result
from sickbay.runtime.parts import ControlPlaneParts, JobApiParts
from sickbay.server.access.control import Access
from sickbay.server.endpoints import Address, Endpoints
from tests.support.incident_snapshots import Patient
from tests.support.known_callers import KnownCallers
from tests.support.ledger_events import cancelled, parked, quarantined, queued, retrying, running, scheduled, succeeded

OURS: Final = "aaa"
THEIRS: Final = "bbb"
NOBODYS: Final = "ccc"
TYPE: Final = "email"
_BOTH: Final = frozenset({Role.SUBMIT, Role.OPERATE})

PRINCIPALS: Final = {
    "ann": Principal("ann", _BOTH, frozenset({OURS})),
    "abe": Principal("abe", _BOTH, frozenset({OURS})),
    "viewer": Principal("viewer", frozenset({Role.VIEW}), frozenset({OURS})),
    "bob": Principal("bbb-bob", _BOTH, frozenset({THEIRS})),
    "both": Principal("both", _BOTH, frozenset({OURS, THEIRS})),
    "program": Principal("program", frozenset({Role.WORK}), frozenset({OURS})),
    "chief": Principal("chief", frozenset({Role.ADMIN}), frozenset({OURS})),
    "otherchief": Principal("bbb-chief", frozenset({Role.ADMIN}), frozenset({THEIRS})),
    "root": Principal("root", frozenset({Role.ADMIN})),
}
"""By their token."""


@dataclass(frozen=True)
class System:
    """Both services, and the incidents of each tenant's own breaker and of the shared one, by tenant."""

    jobs: Endpoints
    plane: Endpoints
    parts: Any
    planes: ControlPlaneParts
    incidents: dict[str, int]

    @property
    def is_shared(self) -> bool:
        """Whether tenants share the breaker of a job type."""
        return self.planes.breaker_scope.key_of(TYPE, THEIRS).tenant != THEIRS


def jobs_of(tenant: str, now: int) -> list[JobEvent]:
    """A job in every state."""

    def words(**more: Any) -> dict[str, Any]:
        payload = f'{{"secret":"{tenant}"}}'.encode()
        return {"tenant": tenant, "payload_json": payload, "submitted_at": now, "at": now, "job_type": TYPE, **more}

    done = succeeded(f"{tenant}-succeeded", **words())
    return [
        scheduled(f"{tenant}-scheduled", run_at=now + 3_600_000, **words()),
        queued(f"{tenant}-queued", **words()),
        running(f"{tenant}-running", **words()),
        retrying(f"{tenant}-retrying", **words()),
        parked(f"{tenant}-parked", **words()),
        quarantined(f"{tenant}-quarantined", message=f"no answer of {tenant}", code=f"OF_{tenant.upper()}", **words()),
        JobEvent(done.job, done.state, done.at, started_at=done.started_at, run=done.run, result=Result(f'"{tenant}"'.encode())),
        cancelled(f"{tenant}-cancelled", **words()),
        JobEvent(replace(done.job, job_id=f"{tenant}-discarded"), JobState.DISCARDED, now, actor=f"{tenant}-ada"),
    ]


@asynccontextmanager
async def serve_both(api: JobApiParts, plane: ControlPlaneParts) -> AsyncIterator[System]:
    """Serve, and give each tenant what it has."""
    access = Access([KnownCallers(**PRINCIPALS)])
    address = Address("127.0.0.1", 0, 0, access=access)
    for tenant in (OURS, THEIRS):  # before anything is parked, so that nothing is released
        for key in {plane.breaker_scope.key_of(TYPE, tenant), BreakerKey(TYPE, tenant)}:
            held = Command(Action.FORCE_OPEN, by=f"{tenant}-ada", why=f"they are {tenant}")
            await plane.breakers.command(key, held)
        await plane.writer.apply(jobs_of(tenant, plane.clock()))
    incidents = {}
    for tenant in (OURS, THEIRS, "default"):
        patient = Patient("sms", tenant)
        patient.now = plane.clock()
        step = await plane.incidents.observe(
            replace(patient.trip(), reason_message=f"no answer of {THEIRS if tenant == 'default' else tenant}")
        )
        assert step.incident is not None
        incidents[tenant] = step.incident.number
    await plane.audit.record(
        [
            AuditEntry(f"{index}", plane.clock() + index, "ResetBreaker", tenant=tenant, principal=f"{tenant}-ada", result="OK")
            for index, tenant in enumerate([OURS, THEIRS, OURS, "", THEIRS])
        ]
    )
    await plane.incidents.acknowledge(incidents["default"], "bbb-ada", "bbb knows")
    async with jobapi.app.serve(api, address) as jobs, controlplane.app.serve(plane, address) as control:
        yield System(jobs, control, api, plane, incidents)
