"""Reads the fleet's breakers: names, total failures, and documents.

Thousands of values are joined by Redis into one reply (`lua/packed.lua`), because the driver needs some 4 us for each reply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from sickbay.adapters.redis.client import Client
from sickbay.adapters.redis.script import Script, key_from_name, key_of, source
from sickbay.breaker.machine import Document, from_json
from sickbay.domain.breaker import BreakerKey

T = TypeVar("T")

KEYS: Final = "breakers"
"""Hash: every known name with its total failures."""
PACK_ABOVE: Final = 100
"""Fewer values are read as they are."""
READ_AT_ONCE: Final = 1_000
"""How many breakers are read with one command, which takes Redis some 1 ms; a page has no more."""
_PACKED: Final = Script(source("packed"))
_LISTS: Final = msgspec.msgpack.Decoder(list[list[str | bool]])
_RAW_LISTS: Final = msgspec.msgpack.Decoder(list[list[msgspec.Raw]])
_VALUE: Final = msgspec.msgpack.Decoder(str | bool)

Values = Sequence[str | None]


async def overview(client: Client, expected: int) -> tuple[int, dict[str, str]]:
    """The time of Redis in ms, and every name with its total failures; about `expected` are expected."""
    if expected > PACK_ABOVE:
        time, found = unpacked(await _PACKED.run(client, KEYS, ["overview"]))
        values: Any = iter(found)
        return _ms(time), dict(zip(values, values, strict=True))
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(KEYS)
    time, totals = await pipeline.execute()
    return _ms(time), {_text(name): _text(total) for name, total in totals.items()}


async def names(client: Client) -> bytes:
    """Every name, separated by line feeds."""
    found: bytes = await _PACKED.run(client, KEYS, ["names"])
    return found


async def some(client: Client, keys: Collection[BreakerKey]) -> tuple[int, Values, Values]:
    """The time of Redis in ms, and of some breakers the total failures (None if unknown) and documents; not of thousands at once."""
    names = [key.name for key in keys]
    if len(names) > PACK_ABOVE:
        time, totals, texts = unpacked(await _PACKED.run(client, KEYS, ["some", msgspec.msgpack.encode(names)]))
        return _ms(time), totals, texts
    pipeline = client.pipeline(transaction=True)
    pipeline.time()
    pipeline.hmget(KEYS, names)
    pipeline.mget(map(key_of, keys))
    time, totals, texts = await pipeline.execute()
    return _ms(time), _texts(totals), _texts(texts)


async def texts(client: Client, keys: Collection[BreakerKey]) -> Values:
    """The stored documents of some breakers, not of thousands at once."""
    if len(keys) > PACK_ABOVE:
        return (await some(client, keys))[2]
    return _texts(await client.mget(map(key_of, keys)))


def batched(items: Iterable[T], size: int = READ_AT_ONCE) -> Iterator[list[T]]:
    """The items, `size` at a time."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def unpacked(reply: bytes) -> list[list[Any]]:
    """The lists in a reply of `packed.lua`, of texts and None; what is not UTF-8 is neither a valid name nor a document."""
    try:
        lists: list[list[Any]] = _LISTS.decode(reply)
    except UnicodeDecodeError:
        lists = [list(map(_value, values)) for values in _RAW_LISTS.decode(reply)]
    return [[value or None for value in values] for values in lists]


def _value(packed: msgspec.Raw) -> str | bool:
    try:
        found: str | bool = _VALUE.decode(packed)
    except UnicodeDecodeError:
        return "\ufffd"
    return found


def _texts(values: Iterable[Any]) -> Values:
    return [_text(value) if value else None for value in values]


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _ms(time: Sequence[int | str]) -> int:
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


class Documents:
    """Parses names and documents; unchanged text is not parsed again."""

    def __init__(self) -> None:
        """Empty."""
        self._names = b""
        self._keys: Sequence[BreakerKey] = ()
        self._known: dict[BreakerKey, tuple[str, Document | None]] = {}

    def keys(self, names: bytes) -> Sequence[BreakerKey]:
        """The keys of the names in a reply, in order; unchanged names are not parsed again."""
        if names != self._names:
            self._keys = sorted(map(key_from_name, filter(None, _text(names).split("\n"))))
            self._names = names
        return self._keys

    def read(self, keys: Iterable[BreakerKey], texts: Values) -> list[Document | None]:
        """The documents of some breakers; None if there is none, or it is invalid: then the script starts over."""
        known = self._known
        return [
            found[1] if text and (found := known.get(key)) and found[0] == text else self._parse(key, text)
            for key, text in zip(keys, texts, strict=True)
        ]

    def _parse(self, key: BreakerKey, text: str | None) -> Document | None:
        if not text:
            return None
        doc: Document | None
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
