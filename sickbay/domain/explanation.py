"""What an explanation consists of; `explain_job.py` and `explain_breaker.py` make them.

Pure. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from sickbay.domain.breaker import BreakerKey
from sickbay.domain.job import DEFAULT_TENANT

MAX_QUOTED_CHARS: Final = 200


class JobReason(StrEnum):
    """Why a job is in its state; the names of the contract's `JobExplanation.Reason`."""

    WAITING_FOR_WORKER = "WAITING_FOR_WORKER"
    RUNNING = "RUNNING"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    PROBE_RUNNING = "PROBE_RUNNING"
    CIRCUIT_FORCED_OPEN = "CIRCUIT_FORCED_OPEN"
    CIRCUIT_RECOVERING = "CIRCUIT_RECOVERING"
    RELEASE_DUE = "RELEASE_DUE"
    RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    UNDECODABLE = "UNDECODABLE"
    WORKER_LOST = "WORKER_LOST"
    BROKER = "BROKER"
    WORKER_FAULT = "WORKER_FAULT"
    SET_ASIDE = "SET_ASIDE"
    SUCCEEDED = "SUCCEEDED"
    DISCARDED = "DISCARDED"
    CANCELLED = "CANCELLED"
    RATE_LIMITED = "RATE_LIMITED"
    SCHEDULED = "SCHEDULED"


class JobStep(StrEnum):
    """What happens to a job next; the names of the contract's `JobExplanation.NextStep`."""

    NONE = "NONE"
    RUN = "RUN"
    RUN_ENDS = "RUN_ENDS"
    RETRY = "RETRY"
    PARK = "PARK"
    PROBE = "PROBE"
    PROBE_ENDS = "PROBE_ENDS"
    HOLD_ENDS = "HOLD_ENDS"
    RELEASE = "RELEASE"
    PERSON_DECIDES = "PERSON_DECIDES"
    WORKER_COMES = "WORKER_COMES"
    DUE = "DUE"


class BreakerReason(StrEnum):
    """Why a breaker is in its state; the names of the contract's `BreakerExplanation.Reason`."""

    HEALTHY = "HEALTHY"
    FAILING = "FAILING"
    RECOVERING = "RECOVERING"
    COOLDOWN = "COOLDOWN"
    PROBE_DUE = "PROBE_DUE"
    PROBE_RUNNING = "PROBE_RUNNING"
    FORCED_OPEN = "FORCED_OPEN"
    DISABLED = "DISABLED"
    METRICS_ONLY = "METRICS_ONLY"


class BreakerStep(StrEnum):
    """What happens to a breaker next; the names of the contract's `BreakerExplanation.NextStep`."""

    NONE = "NONE"
    MAY_OPEN = "MAY_OPEN"
    PROBE = "PROBE"
    PROBE_ENDS = "PROBE_ENDS"
    HOLD_ENDS = "HOLD_ENDS"
    RELEASE = "RELEASE"
    PERSON_DECIDES = "PERSON_DECIDES"
    WORKER_COMES = "WORKER_COMES"


ReasonT = TypeVar("ReasonT", JobReason, BreakerReason)
StepT = TypeVar("StepT", JobStep, BreakerStep)


@dataclass(frozen=True, slots=True)
class Explanation(Generic[ReasonT, StepT]):
    """Why, since when, what happens next, and all of it in sentences.

    `since` is None if it is unknown, `next_at` if the next step does not depend on time alone. `commands` may help.
    """

    reason: ReasonT
    since: int | None
    next_step: StepT
    next_at: int | None
    sentences: tuple[str, ...]
    commands: tuple[str, ...] = ()


JobExplanation = Explanation[JobReason, JobStep]
BreakerExplanation = Explanation[BreakerReason, BreakerStep]


def owner(key: BreakerKey) -> str:
    """Whose breaker it is, in words: `email`, `the dependency mail`, or `email (tenant acme)`."""
    name = f"the dependency {key.dependency}" if key.dependency else key.job_type
    return name if key.tenant == DEFAULT_TENANT else f"{name} (tenant {key.tenant})"


def sharers(key: BreakerKey, job_types: Sequence[str]) -> list[str]:
    """The sentence that says which job types share the breaker of a dependency; none for the breaker of one type."""
    if not key.dependency or not job_types:
        return []
    *others, last = job_types
    names = f"{', '.join(others)} and {last} share" if others else f"Only {last} uses"
    return [f"{names} this circuit, because of the dependency {key.dependency}."]


def command(verb: str, key: BreakerKey) -> str:
    """A `sickbay` command about a breaker."""
    return f"sickbay {verb} {key.job_type}" + ("" if key.tenant == DEFAULT_TENANT else f" --tenant {key.tenant}")


def quoted(code: str, message: str) -> str:
    """An error in words, the message as one line of at most MAX_QUOTED_CHARS without a full stop at its end."""
    line = " ".join("".join(one if one.isprintable() else " " for one in message).split())
    short = line if len(line) <= MAX_QUOTED_CHARS else f"{line[: MAX_QUOTED_CHARS - 3]}..."
    return ": ".join(filter(None, (code, short.rstrip(".") if short is line else short)))
