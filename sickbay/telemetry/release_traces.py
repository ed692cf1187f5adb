"""Spans of releases: each released job continues in its own trace, with a link to the release."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, Tracer

from sickbay.domain.errors import Unavailable
from sickbay.domain.queries import ReleaseLease
from sickbay.observer import Observer
from sickbay.telemetry.spans import mark_failed

BY: Final = "sickbay.release.by"
JOBS: Final = "sickbay.release.jobs"
_RELEASE: Final[ContextVar[tuple[Span, Token[Context]] | None]] = ContextVar("release", default=None)


class ReleaseTraces(Observer):
    """A release by people is part of the trace of their call, one by the healer has its own trace."""

    def __init__(self, tracer: Tracer) -> None:
        """Create spans with `tracer`."""
        self._tracer = tracer

    def releasing(self, leases: Sequence[ReleaseLease], by: str) -> None:
        """Start the span; it is current until `released`."""
        facts: dict[str, str | int] = {BY: by, JOBS: len(leases)}
        span = self._tracer.start_span("release", attributes=facts)
        _RELEASE.set((span, attach(trace.set_span_in_context(span))))

    def released(self, leases: Sequence[ReleaseLease], by: str, error: BaseException | None) -> None:  # noqa: ARG002 - the hook's
        """End the span."""
        release = _RELEASE.get()
        if release is None:
            return
        _RELEASE.set(None)
        span, token = release
        if isinstance(error, Unavailable):
            mark_failed(span, "UNAVAILABLE")
        span.end()
        detach(token)
