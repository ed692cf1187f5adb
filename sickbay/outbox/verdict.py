"""What the answer to a submitted row means for the row, and how long a relay pauses: pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from sickbay.client.errors import CircuitOpen, Conflict, DeadlineExceeded, InvalidRequest, SickbayError, Unauthenticated, Unavailable
from sickbay.client.retry import draw
from sickbay.domain.errors import ErrorReason

FIRST_PAUSE_S: Final = 0.5
MOST_PAUSE_S: Final = 30.0
FIRST_POLL_S: Final = 0.05
MOST_DELAY_S: Final = 60.0
_UNIMPLEMENTED: Final = "UNIMPLEMENTED"


class Verdict(Enum):
    """What becomes of a row."""

    ACCEPTED = auto()
    """The job is durable: the row is deleted."""
    REFUSED = auto()
    """For good: the row is kept for a person."""
    LATER = auto()
    """This job alone, as by a limit: it is due again after a delay, others go on."""
    AWAY = auto()
    """No job would get further: it is due again at once, and the relay pauses."""


def verdict(error: SickbayError | None) -> Verdict:
    """Judge a result of `submit_many`.

    Only an answer of the service, which has a reason, refuses for good. What is in doubt is tried again: its key makes that harmless.
    """
    if error is None:
        return Verdict.ACCEPTED
    if isinstance(error, InvalidRequest | CircuitOpen) and error.reason:
        return Verdict.REFUSED
    if isinstance(error, Conflict) and error.reason == ErrorReason.IDEMPOTENCY_KEY_REUSED:
        return Verdict.REFUSED
    if error.reason == ErrorReason.REQUEST_IN_PROGRESS:
        return Verdict.LATER
    if isinstance(error, Unavailable | DeadlineExceeded | Unauthenticated) or error.code == _UNIMPLEMENTED:
        return Verdict.AWAY
    return Verdict.LATER


def delay_s(error: SickbayError, attempts: int) -> float:
    """After how many seconds a row with the verdict LATER is due again; `attempts` counts this one."""
    return max(error.retry_after or 0.0, min(MOST_DELAY_S, 2.0 ** min(max(attempts - 1, 0), 16)))


@dataclass(slots=True)
class Pace:
    """The pauses of a relay: none while there is work, up to `poll_s` while there is none, up to 30 s while nobody answers."""

    poll_s: float
    jitter: Callable[[float], float] = draw
    failures: int = field(default=0, init=False)
    """Rounds in a row in which a server did not answer."""
    _idle: int = field(default=0, init=False)

    def worked(self) -> float:
        """The pause after a round with work."""
        self.failures = self._idle = 0
        return 0.0

    def idle(self) -> float:
        """The pause after a round that found nothing due."""
        self.failures = 0
        self._idle += 1
        return min(self.poll_s, FIRST_POLL_S * 2.0 ** min(self._idle - 1, 16))

    def away(self) -> float:
        """The pause after a round in which a server did not answer: between half a bound and the bound."""
        self.failures += 1
        bound = min(MOST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 16))
        return bound / 2 + self.jitter(bound / 2)
