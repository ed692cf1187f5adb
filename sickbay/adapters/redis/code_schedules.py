"""The schedules in the code of workers in Redis: one hash, with the script that also keeps the schemas of job types."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from sickbay.adapters.redis.announced import AnnouncedHash
from sickbay.domain.code_schedule import RETENTION_MS, CodeSchedule, CodeScheduleSet

KEY: Final = "codeschedules"

log = logging.getLogger(__name__)

_encoder: Final = msgspec.json.Encoder()
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_decoder: Final = msgspec.json.Decoder(CodeSchedule)


class RedisCodeSchedules(AnnouncedHash):
    """Implements `CodeSchedules`; open it with `async with`. Redis need not be available."""

    key = KEY
    retention_ms = RETENTION_MS

    async def announce(self, sets: Sequence[CodeScheduleSet]) -> None:
        """Enter sets."""
        if sets:
            await self._run("announce", *(word for one in sets for word in (one.digest, _encoder.encode(one.schedules))))

    async def renew(self, digests: Sequence[str]) -> Sequence[str]:
        """Keep sets that are in use; returns those that are unknown."""
        if not digests:
            return []
        _, *unknown = await self._run("renew", *digests)
        return [digest.decode() for digest in unknown]

    async def announced(self, seen: Mapping[str, CodeScheduleSet]) -> Mapping[str, CodeScheduleSet]:
        """All that are known. Unavailable if Redis is."""
        _, *rest = await self._run("list", *seen)
        found: dict[str, CodeScheduleSet] = {}
        for at in range(0, len(rest), 3):
            digest = rest[at].decode(errors="replace")
            found[digest] = seen[digest] if digest in seen else _set(rest[at + 2])
        return found


def _set(document: bytes) -> CodeScheduleSet:
    """What of it can be read: a schedule that another version wrote in another form hides no other."""
    try:
        entries = _list.decode(document)
    except msgspec.DecodeError:
        log.warning("the schedules in the code of workers have a set that cannot be read: %.100r", document)
        return CodeScheduleSet((), is_whole=False)
    found = [one for one in map(_schedule, entries) if one is not None]
    return CodeScheduleSet(tuple(found), is_whole=len(found) == len(entries))


def _schedule(entry: msgspec.Raw) -> CodeSchedule | None:
    try:
        return _decoder.decode(entry)
    except msgspec.DecodeError as error:
        log.warning("a schedule in the code of workers cannot be read, and is ignored: %s", error)
        return None
