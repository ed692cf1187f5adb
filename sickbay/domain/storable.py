"""Makes values storable in every database: texts without NUL and lone surrogates, bounded numbers. Pure.

Any program may publish to the queues, and one value that a database rejects would hold up the whole batch.
"""

from __future__ import annotations

import hashlib
from typing import Final

MAX_COUNT: Final = 1_000_000_000
"""Greatest attempt and generation. A job in that generation is not released any more: the next one would be rejected."""
LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: the limit of a Timestamp."""
AHEAD_MS: Final = 86_400_000
"""How far another clock may be ahead of ours; later times are cut to this, so that no job is kept for ever."""

UNREACHABLE: Final = frozenset({".", "..", "groups"})
"""Job ids that cannot be used in a URL: clients resolve dots in paths, and `/quarantine/groups` is another route."""


def is_storable(text: str) -> bool:
    """Whether the text can be stored unchanged."""
    return storable(text) == text


def storable(text: str, limit: int | None = None) -> str:
    """The text without what a database cannot store, cut to `limit` characters."""
    return text[:limit].replace("\0", "").encode("utf-8", "replace").decode()


def id_of(text: str) -> str:
    """The text if it can be an id, otherwise an id derived from it."""
    return text if is_storable(text) and text not in UNREACHABLE else digest(text.encode("utf-8", "surrogatepass"))


def digest(data: bytes) -> str:
    """An id derived from content: the same for the same content."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def not_ahead(at: int, now: int) -> int:
    """The time, at most `AHEAD_MS` after `now`; both in ms."""
    return min(at, now + AHEAD_MS)
