"""What handlers of ours raise that have the job done elsewhere: it failed there, so a traceback of this process would say nothing."""

from __future__ import annotations

from sickbay.domain.errors import JobError
from sickbay.domain.outcome import OutcomeKind


class RemoteFailure(JobError):
    """A failure as another program has reported it; `traceback` is that program's, empty if it sent none. Not for users."""

    def __init__(
        self, code: str, message: str, kind: OutcomeKind | None = None, *, retry_after: float | None = None, traceback: str = ""
    ) -> None:
        """See `JobError`; a kind that is not given is that of the code."""
        super().__init__(code, message, kind=kind, retry_after=retry_after)
        self.traceback = traceback
