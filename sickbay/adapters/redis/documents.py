"""Reads the fleet's breakers: names, total failures, and documents.

Thousands of values are joined by Redis into one reply (`lua/packed.lua`), because the driver needs some 4 us for each reply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any, Final

from sickbay.adapters.redis.client import Client
from sickbay.adapters.redis.script import Script, Word, key_from_name, key_of, source
from sickbay.breaker.machine import Document, from_json
from sickbay.domain.breaker import BreakerKey

KEYS: Final = "breakers"
"""Hash: every known name with its total failures."""
PACK_ABOVE: Final = 100
"""Fewer values are read as they are."""
READ_AT_ONCE: Final = 1_000
"""How many breakers are read with one command, which takes Redis some 2 ms; a page has no more."""
_PACKED: Final = Script(source("packed"))

Values = Sequence[bytes | None]


async def overview(client: Client, expected: int) -> tuple[int, dict[bytes, bytes]]:
    """The time of Redis in ms, and every name with its total failures; about `expected` are expected."""
    if expected > PACK_ABOVE:
        now, found = await _packed(client, "overview")
        values: Any = iter(found)
        return now, dict(zip(values, values, strict=True))
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(KEYS)
    (seconds, micros), totals = await pipeline.execute()
    return _ms(seconds, micros), totals


async def names(client: Client) -> bytes:
    """Every name, separated by line feeds."""
    found: bytes = await _PACKED.run(client, KEYS, ["names"])
    return found


async def some(client: Client, keys: Collection[BreakerKey]) -> tuple[int, Values, Values]:
    """The time of Redis in ms, and of some breakers the total failures (None if unknown) and documents; not of thousands at once."""
    words = [key.name.encode() for key in keys]
    now, values = await _packed(client, "some", ",".join(str(len(word)) for word in words), b"".join(words))
    return now, values[: len(words)], values[len(words) :]


async def texts(client: Client, keys: Collection[BreakerKey]) -> Values:
    """The stored documents of some breakers, not of thousands at once."""
    if len(keys) > PACK_ABOVE:
        return (await some(client, keys))[2]
    found: Any = await client.mget([key_of(key) for key in keys])
    return list(found)


def batched(keys: Collection[BreakerKey]) -> Iterator[list[BreakerKey]]:
    """The keys, `READ_AT_ONCE` at a time."""
    remaining = iter(keys)
    while batch := list(islice(remaining, READ_AT_ONCE)):
        yield batch


async def _packed(client: Client, *words: Word) -> tuple[int, list[bytes | None]]:
    seconds, micros, *values = unpacked(await _PACKED.run(client, KEYS, words))
    return _ms(int(seconds or 0), int(micros or 0)), values


def unpacked(reply: bytes) -> list[bytes | None]:
    """The values in a reply of `packed.lua`."""
    head, _, body = reply.partition(b"\n")
    sizes = list(map(int, head.split(b",")))
    if min(sizes) >= 0:
        return [body[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]
    ends = accumulate((max(0, size) for size in sizes), initial=0)
    return [body[start:end] if size >= 0 else None for size, (start, end) in zip(sizes, pairwise(ends), strict=True)]


def _ms(seconds: int, micros: int) -> int:
    return seconds * 1000 + micros // 1000


class Documents:
    """Parses names and documents; unchanged text is not parsed again."""

    def __init__(self) -> None:
        """Empty."""
        self._names = b""
        self._keys: Sequence[BreakerKey] = ()
        self._known: dict[BreakerKey, tuple[bytes, Document | None]] = {}

    def keys(self, names: bytes) -> Sequence[BreakerKey]:
        """The keys of the names in a reply, in order; unchanged names are not parsed again."""
        if names != self._names:
            self._keys = sorted(map(key_from_name, filter(None, names.decode().split("\n"))))
            self._names = names
        return self._keys

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
