"""What is known of job types. The rules of the package apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sickbay.domain.job_type import Announced, SchemaKey, TypeSchema


class JobTypes(Protocol):
    """The schemas that workers have announced. Each is kept for `RETENTION_MS` after it was announced or renewed last."""

    async def announce(self, schemas: Sequence[TypeSchema]) -> None:
        """Enter schemas, now the newest of their job types. Done once at the start of a worker, and when one is unknown."""

    async def renew(self, keys: Sequence[SchemaKey]) -> Sequence[SchemaKey]:
        """Keep schemas that are in use; repeat it every `RENEW_MS`. Returns those that are unknown, to be announced again."""

    async def announced(self, seen: Mapping[SchemaKey, TypeSchema]) -> Sequence[Announced]:
        """All that are known. Those in `seen`, which never change, are not read again. Unavailable if they are unknown."""

    async def changed(self, seconds: float) -> None:
        """Wait for so many seconds, or until something is announced, if the registry hears of that at once."""
