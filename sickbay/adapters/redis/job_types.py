"""The schemas of job types in Redis: one hash, and one script that uses the time of Redis, as for the registry of workers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from sickbay.adapters.redis.announced import AnnouncedHash
from sickbay.domain.job_type import RETENTION_MS, Announced, SchemaKey, TypeSchema

KEY: Final = "jobtypes"

log = logging.getLogger(__name__)


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    schema: msgspec.Raw
    on_submit: bool = False
    description: str = ""
    handler: str = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Document)


class RedisJobTypes(AnnouncedHash):
    """Implements `JobTypes`; open it with `async with`. Redis need not be available."""

    key = KEY
    retention_ms = RETENTION_MS

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
