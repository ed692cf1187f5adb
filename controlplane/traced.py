"""Releases as spans: each job that comes back goes on in its own trace, with a link to the release that brought it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opentelemetry.trace import Tracer

from controlplane.release import Releases
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobRecord
from sickbay.domain.queries import ReleaseLease
from sickbay.telemetry.spans import failed

BY: Final = "sickbay.release.by"
JOBS: Final = "sickbay.release.jobs"


class TracedReleaser:
    """Implements `Releases` around another releaser. A release by people is a part of their call, one by the healer a trace of its own."""

    def __init__(self, releaser: Releases, tracer: Tracer, by: str) -> None:
        """`by` is `healer` or `people`."""
        self._releaser = releaser
        self._tracer = tracer
        self._by = by

    async def release(self, claims: Sequence[ReleaseLease]) -> Sequence[JobRecord]:
        """See `Releases.release`."""
        facts: dict[str, str | int] = {BY: self._by, JOBS: len(claims)}
        with self._tracer.start_as_current_span("release", attributes=facts, record_exception=False, set_status_on_exception=False) as span:
            try:
                return await self._releaser.release(claims)
            except Unavailable:
                failed(span, "UNAVAILABLE")
                raise
