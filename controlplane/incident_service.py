"""IncidentService: parse, one core call, reply."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from sickbay.breakers.v1 import incident_service_pb2 as pb
from sickbay.breakers.v1.incident_service_pb2_grpc import IncidentServiceServicer
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.contract import incidents as contract
from sickbay.contract import requests as parse
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerRule, BreakerScope
from sickbay.domain.errors import ErrorReason, NotFound, Unavailable
from sickbay.domain.incident import Incident
from sickbay.domain.incident_sharing import incident_for, tenants_of_incidents
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.ports.incidents import IncidentStore
from sickbay.server.access.caller import principal_of
from sickbay.server.audit.notes import notes_of


class IncidentApi(IncidentServiceServicer):
    """Serves IncidentService."""

    def __init__(self, incidents: IncidentStore, scope: BreakerRule = BreakerScope.TYPE) -> None:
        """`scope` says which breaker decides about a job type: its incidents are those of the type."""
        self._incidents = incidents
        self._scope = scope
        self.detached = DetachedTasks()

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Any) -> pb.ListIncidentsResponse:
        """See the contract."""
        principal = principal_of(context)
        paging = parse_paging(request, principal.name)
        query = contract.incident_query(request, principal)
        if query.job_type:
            query = replace(query, job_type=self._scope.key_of(query.job_type, request.tenant or DEFAULT_TENANT).job_type)
        query = replace(query, tenants=tenants_of_incidents(self._scope, principal, request.tenant, query.job_type))
        page = await self._incidents.find_incidents(query, paging.limit, paging.cursor)
        seen = [incident_for(self._scope, one, principal.tenants) for one in page.items]
        return pb.ListIncidentsResponse(
            incidents=[contract.incident(one[0], whole=False, redacted=one[1]) for one in seen if one is not None],
            next_page_token=next_page_token(request, page.cursor, principal.name),
        )

    async def GetIncident(self, request: pb.GetIncidentRequest, context: Any) -> pb.GetIncidentResponse:
        """See the contract."""
        found, redacted = await self._find(request.incident_id, principal_of(context).tenants)
        return pb.GetIncidentResponse(incident=contract.incident(found, redacted=redacted))

    @detached
    async def AcknowledgeIncident(self, request: pb.AcknowledgeIncidentRequest, context: Any) -> pb.AcknowledgeIncidentResponse:
        """See the contract."""
        principal = principal_of(context)
        number, actor, note = _number(request.incident_id), parse.actor(request.actor, principal), contract.note(request.note)
        await self._note_before(number, context)
        if principal.tenants is not None:  # before it is changed; the breaker of an incident never changes
            _, redacted = await self._find(request.incident_id, principal.tenants)
            if redacted:
                principal.check_all_tenants("the incident of a breaker that tenants share")
        return pb.AcknowledgeIncidentResponse(incident=contract.incident(await self._incidents.acknowledge(number, actor, note)))

    async def _find(self, incident_id: str, tenants: Tenants) -> tuple[Incident, bool]:
        """The incident as those see it who have these tenants, and whether something was left out; NotFound."""
        found = await self._incidents.get_incident(_number(incident_id))
        seen = incident_for(self._scope, found, tenants) if found is not None else None
        if seen is None:
            raise _not_found(incident_id)
        return seen

    async def _note_before(self, number: int, context: Any) -> None:
        """Note for the audit log whether it is acknowledged, and the tenant of its breaker."""
        with suppress(Unavailable):
            if (found := await self._incidents.get_incident(number)) is not None:
                notes = notes_of(context)
                notes.before = "acknowledged" if found.acknowledged is not None else "not acknowledged"
                notes.tenant = found.key.tenant if self._scope.key_of(found.key.job_type, found.key.tenant).tenant != DEFAULT_TENANT else ""


def _number(incident_id: str) -> int:
    number = contract.incident_number(incident_id)
    if number is None:
        raise _not_found(incident_id)
    return number


def _not_found(incident_id: str) -> NotFound:
    return NotFound(
        f"there is no incident {incident_id[:40]!r}, or it is past its retention; ListIncidents has all", ErrorReason.INCIDENT_NOT_FOUND
    )
