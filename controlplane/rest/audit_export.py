"""`GET /audit` as JSON lines: all entries that match, read page by page while they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from starlette.responses import Response, StreamingResponse

from sickbay.audit.v1 import audit_service_pb2 as pb
from sickbay.audit.v1.audit_pb2 import AuditEntry
from sickbay.contract.paging import MAX_PAGE_SIZE
from sickbay.server.rest.views import audit_view, encode

if TYPE_CHECKING:
    from sickbay.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub

JSON_LINES: Final = "application/jsonl"
LINES: Final = (JSON_LINES, "application/x-ndjson")


async def export(stub: AuditServiceAsyncStub, request: pb.ListAuditEntriesRequest) -> Response:
    """The entries, one per line; an error of the first page is an ordinary one, a later one breaks the response off."""
    query = pb.ListAuditEntriesRequest()
    query.CopyFrom(request)
    query.page_size = MAX_PAGE_SIZE
    first = await stub.ListAuditEntries(query)

    async def lines() -> AsyncIterator[bytes]:
        page = first
        yield _text(page.entries)
        while page.next_page_token:
            query.page_token = page.next_page_token
            page = await stub.ListAuditEntries(query)
            yield _text(page.entries)

    return StreamingResponse(lines(), media_type=JSON_LINES)


def _text(entries: Sequence[AuditEntry]) -> bytes:
    return b"".join(encode(audit_view(entry)) + b"\n" for entry in entries)
