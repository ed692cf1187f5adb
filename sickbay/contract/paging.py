"""Page sizes and page tokens of all lists.

A token is opaque to clients: the ledger's cursor, bound to the query by a hash of the request without its paging fields. It is neither a
secret nor a permission; the hash only prevents its use with another filter (AIP-158), and by another principal.
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
    """The maximum number of items, and the ledger's cursor to continue from (empty: from the start)."""

    limit: int
    cursor: str


def parse_paging(request: Listing, principal: str = "") -> Paging:
    """The requested page; InvalidArgument for a bad size, InvalidArgument(INVALID_PAGE_TOKEN) for a token of another query or principal.

    `principal` is the name of who asks, empty while access control is off.
    """
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        raise InvalidArgument(f"the page size must be 1 to {MAX_PAGE_SIZE:,} (0 means {DEFAULT_PAGE_SIZE}), not {request.page_size}")
    return Paging(request.page_size or DEFAULT_PAGE_SIZE, _cursor(request, principal))


def next_page_token(request: Listing, cursor: str, principal: str = "") -> str:
    """The token that continues this query of the principal at the ledger's cursor; empty on the last page."""
    if not cursor:
        return ""
    return base64.urlsafe_b64encode(_digest(request, principal) + cursor.encode()).rstrip(b"=").decode()


def _cursor(request: Listing, principal: str) -> str:
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
    if not cursor or data[:_DIGEST_BYTES] != _digest(request, principal):
        raise _stale()
    return cursor


def _digest(request: Listing, principal: str) -> bytes:
    query = deepcopy(request)
    query.page_size, query.page_token = 0, ""
    if isinstance(query, ListJobsRequest):
        query.ClearField("view")
        states = sorted(set(query.states))
        query.ClearField("states")
        query.states.extend(states)
    text = query.DESCRIPTOR.full_name.encode() + b"\0" + query.SerializeToString(deterministic=True)
    # As the key of the hash, so that no request can look like one of somebody else; without a principal tokens are as they always were.
    key = hashlib.blake2b(principal.encode("utf-8", "replace")).digest() if principal else b""
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, key=key).digest()


def _stale() -> InvalidArgument:
    msg = "the page token does not belong to this query; repeat it with the filters of the first page, or start again without a token"
    return InvalidArgument(msg, ErrorReason.INVALID_PAGE_TOKEN)
