"""The job types as one process sees them, and whether a payload fits.

Of several schemas of a type, as during a deployment, a payload has to fit one that counts: those of live workers, else the newest.
Where that is not known (the registry is away, a worker has announced no schema, a schema cannot be used), every payload fits: workers
check again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic
from typing import Final

from sickbay.concurrency.tasks import background
from sickbay.domain.errors import ErrorReason, FailedPrecondition, InvalidArgument, Unavailable
from sickbay.domain.job_type import Announced, JobType, SchemaKey, TypeSchema, job_types
from sickbay.domain.workers import Fleet
from sickbay.handlers.payloads.mismatch import Problem, message_of
from sickbay.job_types.schema import PayloadSchema, UnusableSchema
from sickbay.ports.job_types import JobTypes
from sickbay.ports.workers import WorkerRegistry

REFRESH_S: Final = 2.0
STALE_S: Final = 30.0
"""After so long without the registry nothing is rejected."""

log = logging.getLogger(__name__)


class JobTypeView:
    """One per process. `rejection` is asked for each job; it looks into memory."""

    def __init__(
        self, registry: JobTypes | None, workers: WorkerRegistry | None, *, refresh_s: float = REFRESH_S, stale_s: float = STALE_S
    ) -> None:
        """Both are None if this process has no REDIS_URL: then nothing is known of job types."""
        self._registry = registry
        self._workers = workers
        self._refresh_s = refresh_s
        self._stale_s = stale_s
        self._seen: Mapping[SchemaKey, TypeSchema] = {}
        self._compiled: dict[SchemaKey, PayloadSchema | None] = {}
        self._enforced: Mapping[str, JobType] = {}
        self._read_at = monotonic()

    async def look(self) -> Mapping[str, JobType]:
        """All job types, by name, as they are now. Unavailable if they are unknown, FailedPrecondition without REDIS_URL."""
        if self._registry is None or self._workers is None:
            raise FailedPrecondition("job types are known with REDIS_URL, which is not set for this service", ErrorReason.NOT_CONFIGURED)
        return self._keep(await self._registry.announced(self._seen), await self._workers.fleet())

    def rejection(self, job_type: str, payload_json: bytes) -> InvalidArgument | None:
        """The error if the payload of a job that is submitted fits none of the schemas, and they say that it is to be rejected."""
        found = self._enforced.get(job_type)
        return None if found is None else self._error(found, payload_json)

    async def rejection_now(self, job_type: str, payload_json: bytes) -> InvalidArgument | None:
        """The error that a submit would get, as of now. None if the job types are unknown."""
        try:
            await self.look()
        except (Unavailable, FailedPrecondition):
            return None
        return self.rejection(job_type, payload_json)

    async def mistake(self, job_type: str, payload_json: bytes) -> InvalidArgument | None:
        """The same for any payload, as of now, whatever the schemas say. None if the job types are unknown."""
        try:
            found = (await self.look()).get(job_type)
        except (Unavailable, FailedPrecondition):
            return None
        return None if found is None or found.is_open else self._error(found, payload_json)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look again and again while the context lasts."""
        async with background(self._watch):
            yield

    async def refresh(self) -> None:
        """Look once; while the registry is away, what was known holds for a while."""
        if self._registry is None or self._workers is None:
            return
        try:
            announced = await self._registry.announced(self._seen)
            if announced or self._seen:
                self._keep(announced, await self._workers.fleet())
        except Unavailable:
            if monotonic() - self._read_at > self._stale_s:
                self._enforced = {}

    async def _watch(self) -> None:
        while self._registry is not None:
            await self.refresh()
            await self._registry.changed(self._refresh_s)

    def _keep(self, announced: Sequence[Announced], fleet: Fleet) -> Mapping[str, JobType]:
        self._seen = {one.schema.key: one.schema for one in announced}
        self._compiled = {key: compiled for key, compiled in self._compiled.items() if key in self._seen}
        found = job_types(announced, fleet)
        self._enforced = {name: one for name, one in found.items() if one.on_submit}
        self._read_at = monotonic()
        return found

    def _error(self, found: JobType, payload_json: bytes) -> InvalidArgument | None:
        """None if the payload fits one of the schemas."""
        newest: Sequence[Problem] = ()
        for one in found.schemas:
            schema = self._schema(one.schema)
            problems = [] if schema is None else schema.problems(payload_json)
            if not problems:
                return None
            newest = newest or problems
        return _invalid(found.name, newest) if newest else None

    def _schema(self, schema: TypeSchema) -> PayloadSchema | None:
        """Compiled at its first use; None if it cannot be used."""
        if schema.key not in self._compiled:
            try:
                self._compiled[schema.key] = PayloadSchema(schema.schema_json)
            except UnusableSchema as why:
                log.warning("payloads of %s are not checked: their schema cannot be used: %s", schema.job_type, why)
                self._compiled[schema.key] = None
        return self._compiled[schema.key]


def _invalid(job_type: str, problems: Sequence[Problem]) -> InvalidArgument:
    message = f"the payload is not one of the job type {job_type!r}: {message_of(problems)}"
    return InvalidArgument(message, ErrorReason.INVALID_PAYLOAD, violations=problems)
