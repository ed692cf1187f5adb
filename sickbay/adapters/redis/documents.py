"""What is read of the fleet's circuits, and how: names, failures in total, and documents."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sickbay.adapters.redis.client import Client
from sickbay.adapters.redis.script import key_of
from sickbay.breaker.machine import Document, from_json
from sickbay.domain.breaker import BreakerKey

TYPES: Final = "breakers"
"""Hash: every name that is known, with all its failures."""


async def overview(client: Client) -> Any:
    """The time of Redis, and every name with its failures in total."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(TYPES)
    return await pipeline.execute()


async def totals(client: Client, keys: Collection[BreakerKey]) -> Any:
    """The same of some names."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hmget(TYPES, [key.name for key in keys])
    return await pipeline.execute()


async def texts(client: Client, keys: Collection[BreakerKey]) -> Any:
    """The documents of some circuits as they are stored."""
    return await client.mget([key_of(key) for key in keys])


class Documents:
    """Reads documents; the text of one that has not changed is not read again."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._known: dict[BreakerKey, tuple[bytes, Document | None]] = {}

    def read(self, key: BreakerKey, text: bytes | None) -> Document | None:
        """The document of a circuit; None if there is none, or somebody else wrote it: then the script will begin anew."""
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
