"""Page sizes and page tokens of every list.

A token is opaque to clients: the ledger's cursor, bound to the query by a hash of the request without its paging fields. It is no
secret and no permission; the hash only keeps a token from being used with another filter (AIP-158).
"""

from __future__ import annotations

import base64
import hashlib
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf.descriptor import Descriptor

from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.jobs.v1.job_service_pb2 import ListJobsRequest

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
_DIGEST_BYTES: Final = 8
_MAX_TOKEN_CHARS: Final = 2048


class Listing(Protocol):
    """A request that asks for a page, as AIP-158 has it: every message with these two fields."""

    page_size: int
    page_token: str

    @property
    def DESCRIPTOR(self) -> Descriptor:  # noqa: N802 - protobuf's name
        """The message's type."""

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802 - protobuf's name
        """The message as bytes."""


@dataclass(frozen=True, slots=True)
class Paging:
    """How many to return at most, and the ledger's cursor to go on from (empty: from the start)."""

    limit: int
    cursor: str


def paging(request: Listing) -> Paging:
    """Which page is asked for; InvalidArgument for a bad size, InvalidArgument(INVALID_PAGE_TOKEN) for a token of another query."""
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        raise InvalidArgument(f"the page size must be 1 to {MAX_PAGE_SIZE:,} (0 means {DEFAULT_PAGE_SIZE}), not {request.page_size}")
    return Paging(request.page_size or DEFAULT_PAGE_SIZE, _cursor(request))


def next_page_token(request: Listing, cursor: str) -> str:
    """The token that continues this query at the ledger's cursor; empty on the last page."""
    if not cursor:
        return ""
    return base64.urlsafe_b64encode(_digest(request) + cursor.encode()).rstrip(b"=").decode()


def _cursor(request: Listing) -> str:
    token = request.page_token
    if not token:
        return ""
    if len(token) > _MAX_TOKEN_CHARS:
        raise _stale()
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
        cursor = data[_DIGEST_BYTES:].decode()
    except ValueError:  # of every kind: not ASCII, not base64, not UTF-8
        raise _stale() from None
    if not cursor or data[:_DIGEST_BYTES] != _digest(request):
        raise _stale()
    return cursor


def _digest(request: Listing) -> bytes:
    query = deepcopy(request)
    query.page_size, query.page_token = 0, ""
    if isinstance(query, ListJobsRequest):
        query.ClearField("view")
        states = sorted(set(query.states))
        query.ClearField("states")
        query.states.extend(states)
    text = query.DESCRIPTOR.full_name.encode() + b"\0" + query.SerializeToString(deterministic=True)
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()


def _stale() -> InvalidArgument:
    msg = "the page token does not belong to this query; repeat it with the filters of the first page, or start again without a token"
    return InvalidArgument(msg, ErrorReason.INVALID_PAGE_TOKEN)
