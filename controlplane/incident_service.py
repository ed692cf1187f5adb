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
from sickbay.domain.breaker import BreakerRule, BreakerScope
from sickbay.domain.errors import ErrorReason, NotFound, Unavailable
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
        paging = parse_paging(request)
        query = contract.incident_query(request)
        if query.job_type:
            query = replace(query, job_type=self._scope.key_of(query.job_type, query.tenant or DEFAULT_TENANT).job_type)
        page = await self._incidents.find_incidents(query, paging.limit, paging.cursor)
        return pb.ListIncidentsResponse(
            incidents=[contract.incident(one, whole=False) for one in page.items], next_page_token=next_page_token(request, page.cursor)
        )

    async def GetIncident(self, request: pb.GetIncidentRequest, context: Any) -> pb.GetIncidentResponse:
        """See the contract."""
        found = await self._incidents.get_incident(_number(request.incident_id))
        if found is None:
            raise _not_found(request.incident_id)
        return pb.GetIncidentResponse(incident=contract.incident(found))

    @detached
    async def AcknowledgeIncident(self, request: pb.AcknowledgeIncidentRequest, context: Any) -> pb.AcknowledgeIncidentResponse:
        """See the contract."""
        number, note = _number(request.incident_id), contract.note(request.note)
        actor = principal_of(context).actor(parse.actor(request.actor))
        await self._note_before(number, context)
        return pb.AcknowledgeIncidentResponse(incident=contract.incident(await self._incidents.acknowledge(number, actor, note)))

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
