"""AuditService: parse, one core call, reply."""

from __future__ import annotations

from typing import Any

from sickbay.audit.v1 import audit_service_pb2 as pb
from sickbay.audit.v1.audit_service_pb2_grpc import AuditServiceServicer
from sickbay.contract import audit as contract
from sickbay.contract.paging import next_page_token, parse_paging
from sickbay.ports.audit import AuditStore
from sickbay.server.access.caller import principal_of


class AuditApi(AuditServiceServicer):
    """Serves AuditService."""

    def __init__(self, audit: AuditStore) -> None:
        """`audit` has the entries."""
        self._audit = audit

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, context: Any) -> pb.ListAuditEntriesResponse:
        """See the contract."""
        principal = principal_of(context)
        paging, query = parse_paging(request, principal.name), contract.audit_query(request, principal)
        page = await self._audit.find_entries(query, paging.limit, paging.cursor)
        return pb.ListAuditEntriesResponse(
            entries=map(contract.audit_entry, page.items), next_page_token=next_page_token(request, page.cursor, principal.name)
        )
