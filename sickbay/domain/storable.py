"""What every database can keep: texts without NUL and without halves of surrogate pairs, bounded numbers. Pure.

Strangers may put messages on the queues, and one value that a database refuses would hold up all that comes with it.
"""

from __future__ import annotations

import hashlib
from typing import Final

MAX_COUNT: Final = 1_000_000_000
"""Greatest attempt and generation. A job in that generation is not released any more: the next one would not be read."""
LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: what a Timestamp can say."""
AHEAD_MS: Final = 86_400_000
"""How far ahead of ours another clock may be; what is told of a later time is told of that time, so that it is not kept for ever."""

UNREACHABLE: Final = frozenset({".", "..", "groups"})
"""Job ids that no URL reaches: clients take dots for steps in the path, and `/quarantine/groups` is another route."""


def is_storable(text: str) -> bool:
    """Whether the text can be kept just as it is."""
    return storable(text) == text


def storable(text: str, limit: int | None = None) -> str:
    """The text without what no database keeps, cut to `limit` characters."""
    return text[:limit].replace("\0", "").encode("utf-8", "replace").decode()


def id_of(text: str) -> str:
    """The text, where it can be an id; otherwise an id that is the same for the same text, and no other's."""
    return text if is_storable(text) and text not in UNREACHABLE else digest(text.encode("utf-8", "surrogatepass"))


def digest(data: bytes) -> str:
    """An id for content that has none: the same for the same content."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def not_ahead(at: int, now: int) -> int:
    """The time, or the latest that can be meant; both in ms."""
    return min(at, now + AHEAD_MS)
