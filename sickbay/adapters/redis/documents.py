"""Reads the fleet's breakers: names, total failures, and documents."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sickbay.adapters.redis.client import Client
from sickbay.adapters.redis.script import key_of
from sickbay.breaker.machine import Document, from_json
from sickbay.domain.breaker import BreakerKey

KEYS: Final = "breakers"
"""Hash: every known name with its total failures."""


async def overview(client: Client) -> Any:
    """The time of Redis, and every name with its total failures."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(KEYS)
    return await pipeline.execute()


async def totals(client: Client, keys: Collection[BreakerKey]) -> Any:
    """The same of some names."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hmget(KEYS, [key.name for key in keys])
    return await pipeline.execute()


async def texts(client: Client, keys: Collection[BreakerKey]) -> Any:
    """The stored documents of some breakers."""
    return await client.mget([key_of(key) for key in keys])


class Documents:
    """Parses documents; unchanged text is not parsed again."""

    def __init__(self) -> None:
        """Empty."""
        self._known: dict[BreakerKey, tuple[bytes, Document | None]] = {}

    def read(self, key: BreakerKey, text: bytes | None) -> Document | None:
        """The document of a breaker; None if there is none, or it is invalid: then the script starts over."""
        known, doc = self._known.get(key, (None, None))
        if not text or text == known:
            return doc if text else None
        try:
            doc = from_json(text)
        except ValueError:
            doc = None
        self._known[key] = (text, doc)
        return doc

    def keep(self, keys: Collection[BreakerKey]) -> None:
        """Forget all others."""
        if len(self._known) > len(keys):
            self._known = {key: found for key, found in self._known.items() if key in keys}
