"""Job types as their workers describe them: what a payload must be, and which of several descriptions count. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from sickbay.domain.workers import Fleet

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""A larger schema is not announced."""
MAX_DESCRIPTION_CHARS: Final = 300
RETENTION_MS: Final = 86_400_000
"""How long a schema is kept after its last worker, so that a deployment does not change what is checked."""
RENEW_MS: Final = 60_000
"""How often a live worker says that its schemas are in use."""


class SchemaKey(NamedTuple):
    """Names one schema of a job type; `digest` is of everything that is announced with it."""

    job_type: str
    digest: str


@dataclass(frozen=True)
class TypeSchema:
    """What a worker announces of a job type: the JSON Schema of its payloads as JSON text, and what its handler says of itself.

    `on_submit`: the Job API is to reject other payloads. `description` is one line, `handler` is where the function is (`module.name`).
    """

    job_type: str
    schema_json: bytes
    on_submit: bool = False
    description: str = ""
    handler: str = ""

    @cached_property
    def key(self) -> SchemaKey:
        """The same for the same announcement of any worker."""
        parts = (self.schema_json, str(int(self.on_submit)).encode(), self.description.encode(), self.handler.encode())
        return SchemaKey(self.job_type, hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest())


@dataclass(frozen=True, slots=True)
class Announced:
    """A schema that is known; `at` is when a worker announced it last (ms, by the registry's clock)."""

    schema: TypeSchema
    at: int


@dataclass(frozen=True, slots=True)
class JobType:
    """A job type: the schemas that count, newest first, and the workers that take its jobs now.

    Those of live workers count, else the newest that is known. `is_open`: a live worker may take any payload, because it has announced no
    schema, or that is not known.
    """

    name: str
    schemas: Sequence[Announced] = ()
    workers: int = 0
    pools: Sequence[str] = ()
    is_open: bool = False

    @property
    def newest(self) -> Announced | None:
        """The schema that is shown; None if there is none."""
        return self.schemas[0] if self.schemas else None

    @property
    def on_submit(self) -> bool:
        """Whether the Job API rejects payloads that none of the schemas allows: if all that count say so."""
        return bool(self.schemas) and not self.is_open and all(one.schema.on_submit for one in self.schemas)


def job_types(announced: Iterable[Announced], fleet: Fleet) -> Mapping[str, JobType]:
    """All job types that workers take now, or have announced within RETENTION_MS, by name."""
    known: dict[str, dict[str, Announced]] = {}
    for one in announced:
        known.setdefault(one.schema.job_type, {})[one.schema.key.digest] = one
    live = _live(fleet)
    return {name: _job_type(name, known.get(name, {}), live.get(name)) for name in sorted({*known, *live})}


@dataclass(slots=True)
class _Live:
    digests: set[str]
    pools: set[str]
    workers: int = 0


def _live(fleet: Fleet) -> dict[str, _Live]:
    """By job type, what its live workers say; of one without a schema the digest is empty."""
    found: dict[str, _Live] = {}
    for worker in fleet.workers:
        if worker.draining:
            continue
        digests = dict(worker.schemas)
        for name in worker.job_types:
            one = found.setdefault(name, _Live(set(), set()))
            one.digests.add(digests.get(name, ""))
            one.pools |= {worker.pool} if worker.pool else set()
            one.workers += 1
    return found


def _job_type(name: str, known: Mapping[str, Announced], live: _Live | None) -> JobType:
    newest_first = sorted(known.values(), key=lambda one: (-one.at, one.schema.key))
    if live is None:
        return JobType(name, newest_first[:1])
    counting = [one for one in newest_first if one.schema.key.digest in live.digests]
    is_open = any(digest not in known for digest in live.digests)
    return JobType(name, counting, live.workers, sorted(live.pools), is_open)
