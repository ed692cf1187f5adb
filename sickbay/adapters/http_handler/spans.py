"""What a handler behind HTTP tells about its requests; without tracing, the trace of the job is passed on as it came."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

from sickbay.domain.job import Job
from sickbay.domain.trace import trace_headers


class RequestSpan(Protocol):
    """One request."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Those that tell the endpoint to which trace it belongs."""

    def answered(self, status: int) -> None:
        """The head of the answer has come."""


class RequestSpans(Protocol):
    """Of one worker."""

    def request(self, job: Job, host: str, port: int) -> AbstractContextManager[RequestSpan]:
        """Around one request; an exception that leaves the context is its failure."""


@dataclass(frozen=True, slots=True)
class _NoSpan:
    headers: Mapping[str, str] = field(default_factory=dict)

    def answered(self, status: int) -> None:
        """Nobody is told."""


class _Untraced:
    def request(self, job: Job, host: str, port: int) -> AbstractContextManager[RequestSpan]:  # noqa: ARG002 - the protocol's
        """The trace of the job."""
        return nullcontext(_NoSpan(trace_headers(job.trace)))


UNTRACED: Final[RequestSpans] = _Untraced()
