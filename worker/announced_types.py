"""Announces the schemas of a worker's job types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sickbay.domain.job_type import RENEW_MS, SchemaKey, TypeSchema
from sickbay.ports.job_types import JobTypes
from worker.announcements import AGAIN_S, Announcements

RENEW_S: Final = RENEW_MS / 1000
_TROUBLE: Final = "this worker cannot announce the schemas of its payloads, so nobody checks them before a run: %s"


class AnnouncedTypes(Announcements[SchemaKey, TypeSchema]):
    """See `Announcements`."""

    def __init__(
        self, registry: JobTypes | None, schemas: Sequence[TypeSchema], *, every_s: float = RENEW_S, again_s: float = AGAIN_S
    ) -> None:
        """`schemas` are those of the worker's handlers."""
        super().__init__(registry, {one.key: one for one in schemas}, _TROUBLE, every_s=every_s, again_s=again_s)

    def replace(self, schemas: Sequence[TypeSchema]) -> None:
        """From now on it has these: those that are new are announced soon."""
        self.set({one.key: one for one in schemas})
