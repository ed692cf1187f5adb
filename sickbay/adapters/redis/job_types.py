"""The schemas of job types in Redis: one hash, and one script that uses the time of Redis, as for the registry of workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from sickbay.adapters.redis.client import REJECTS_WRITES, UNAVAILABLE, Client, RedisUnavailable, Refused, open_client
from sickbay.adapters.redis.guarded_client import GuardedClient
from sickbay.adapters.redis.script import Script, Word, source
from sickbay.domain.errors import Unavailable
from sickbay.domain.job_type import RETENTION_MS, Announced, SchemaKey, TypeSchema
from sickbay.ports import Clock

KEY: Final = "jobtypes"

log = logging.getLogger(__name__)


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    schema: msgspec.Raw
    on_submit: bool = False
    description: str = ""
    handler: str = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Document)


class RedisJobTypes:
    """Implements `JobTypes`; open it with `async with`. Redis need not be available."""

    def __init__(self, url: str, *, clock: Clock | None = None, connect: Callable[[str], Client] = open_client) -> None:
        """`clock` replaces the time of Redis (tests). SettingsError if the URL is invalid."""
        self._clock = clock
        self._store = GuardedClient(connect(url))
        self._script = Script(source("announced"))
        self.trouble = ""
        """Why the schemas are unknown, without secrets; "" if the last call succeeded."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(Unavailable):
            await self._store.close()

    async def announce(self, schemas: Sequence[TypeSchema]) -> None:
        """Enter schemas, now the newest of their job types."""
        if schemas:
            await self._run("announce", *(word for one in schemas for word in (_field(one.key), _document(one))))

    async def renew(self, keys: Sequence[SchemaKey]) -> Sequence[SchemaKey]:
        """Keep schemas that are in use; returns those that are unknown."""
        if not keys:
            return []
        _, *unknown = await self._run("renew", *map(_field, keys))
        return [SchemaKey(*field.decode().split(" ")) for field in unknown]

    async def announced(self, seen: Mapping[SchemaKey, TypeSchema]) -> Sequence[Announced]:
        """All that are known. Unavailable if Redis is."""
        _, *rest = await self._run("list", *map(_field, seen))
        found = (_announced(seen, *rest[at : at + 3]) for at in range(0, len(rest), 3))
        return [one for one in found if one is not None]

    async def changed(self, seconds: float) -> None:
        """Wait; nobody tells what is announced."""
        await asyncio.sleep(seconds)

    async def _run(self, operation: str, *more: Word) -> list[bytes]:
        words: list[Word] = [operation, "" if self._clock is None else self._clock(), RETENTION_MS, *more]
        try:
            answer: list[bytes] = await self._store.ask(lambda client: self._script.run(client, KEY, words))
        except RedisUnavailable as error:
            self.trouble = REJECTS_WRITES if isinstance(error, Refused) else UNAVAILABLE
            self._store.reset()  # no pauses: calls are rare
            raise
        self.trouble = ""
        return answer


def _field(key: SchemaKey) -> str:
    return f"{key.job_type} {key.digest}"


def _document(schema: TypeSchema) -> bytes:
    return _encoder.encode(_Document(msgspec.Raw(schema.schema_json), schema.on_submit, schema.description, schema.handler))


def _announced(seen: Mapping[SchemaKey, TypeSchema], field: bytes, at: bytes, document: bytes) -> Announced | None:
    """None for what another version wrote in another form: then nothing is checked by it."""
    try:
        key = SchemaKey(*field.decode().split(" "))
        if (known := seen.get(key)) is not None:
            return Announced(known, int(at))
        found = _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        log.warning("the registry of job types has an entry that cannot be read: %.100r", document)
        return None
    schema = TypeSchema(key.job_type, bytes(found.schema), found.on_submit, found.description, found.handler)
    return Announced(schema, int(at)) if schema.key == key else None
