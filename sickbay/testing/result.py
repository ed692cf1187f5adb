"""How one run of a handler ended, and where its job would go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.progress import Progress
from sickbay.domain.retry import Done, Retry, Route, SetAside
from sickbay.testing.follow_ups import Submitted

Destination = Literal["succeeded", "retry", "parked", "quarantine"]
"""What becomes of a job: it has ended, it runs again by itself, it waits for its circuit to close, or a person decides."""


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """One run: the job, its outcome and route as the product's own parts made them, and what else a test wants to know.

    `exception` is what the handler raised, None if nothing; `progress` are all its reports; `seconds` is how long it ran.
    """

    job: Job
    outcome: Outcome
    route: Route
    exception: BaseException | None = None
    progress: tuple[Progress, ...] = ()
    seconds: float = 0.0
    submitted: tuple[Submitted, ...] = ()
    """The follow-up jobs that the handler submitted."""

    @property
    def succeeded(self) -> bool:
        """Whether the handler returned."""
        return self.outcome.kind is OutcomeKind.SUCCESS

    @property
    def result(self) -> Any:
        """What clients get of the handler's return value: its JSON, decoded. None for None, after a failure, and if it is not kept."""
        kept = self.outcome.result
        return json.loads(kept.json) if kept is not None and kept.json else None

    @property
    def result_note(self) -> str:
        """Why the result is not kept; empty if it is, or if there is none."""
        return self.outcome.result.note if self.outcome.result is not None else ""

    @property
    def kind(self) -> str:
        """`success`, `systemic`, `transient`, `data` or `unknown` (docs/handlers.md#kinds)."""
        return self.outcome.kind.value

    @property
    def code(self) -> str:
        """The error code, such as API_TIMEOUT; empty after a success, as are the next two."""
        return self.outcome.code

    @property
    def message(self) -> str:
        """The message as it is kept with the job."""
        return self.outcome.message

    @property
    def traceback(self) -> str:
        """The traceback as it is kept with the job; after a timeout it shows where the handler was."""
        return self.outcome.traceback

    @property
    def goes_to(self) -> Destination:
        """What becomes of the job."""
        match self.route:
            case Done():
                return "succeeded"
            case SetAside(_, reason):
                return "parked" if reason.value == "CIRCUIT_OPEN" else "quarantine"
            case _:
                return "retry"

    @property
    def will_retry(self) -> bool:
        """Whether the job runs again by itself after a pause of `retry_in`."""
        return self.goes_to == "retry"

    @property
    def will_be_quarantined(self) -> bool:
        """Whether the job waits for a person."""
        return self.goes_to == "quarantine"

    @property
    def retry_in(self) -> float | None:
        """The pause before the next run in seconds, without what chance adds to it; None if there is none."""
        return self.route.delay_ms / 1000 if isinstance(self.route, Retry) else None

    @property
    def breaker_counts(self) -> bool:
        """Whether the breaker counts this run as a failure."""
        return self.outcome.kind.is_breaker_failure

    def __repr__(self) -> str:
        """One line, which pytest shows when an assertion fails."""
        if self.succeeded:
            return f"<Result: succeeded, {self.result_note or f'result {self.result!r}'}>"
        where = {"parked": "the job is parked", "quarantine": "the job is quarantined"}.get(self.goes_to)
        return f"<Result: failed, {self.code} ({self.kind}): {self.message!r}; {where or f'the job runs again in {self.retry_in:g} s'}>"
