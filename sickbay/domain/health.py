"""Whether a service does its work, and whether to send it any: what its parts say of themselves, damped. Pure.

Three questions with three answers, because three kinds of machines act on them:

- *alive*: the process answers. Whoever restarts processes asks this; no server that is away makes it false.
- *ready*: its servers have answered once, and it does not end. Whoever sends traffic asks this. A server that goes away later is away for
  all replicas: if that made them unready, traffic would go nowhere, what still works (reading while RabbitMQ is away) would not be reached,
  and clients would see a refused connection instead of the sentence that says what is wrong and when to come again.
- *serving*: it does its work now. This follows its servers, with a grace. Whoever wakes people asks this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Final

from sickbay.domain.backend_status import BackendStatus

GRACE_S: Final = 10.0
LONGEST_STEP_S: Final = 2.0
"""More does not count between two looks: the process stood still, and what it did not see does not speak against anybody."""
MANY: Final = 2
QUIET_S: Final = 60.0


class Status(StrEnum):
    """The whole: OK, DEGRADED if a part is down without which the main work goes on, ERROR if it does not (or not yet, or no longer)."""

    OK = "ok"
    DEGRADED = "degraded"
    ERROR = "error"


class Mark(StrEnum):
    """One part: FAILING is in trouble for less than the grace, DOWN for longer, and until it has been well for half as long."""

    UP = "up"
    FAILING = "failing"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Check:
    """A part. `trouble` tells from memory what is wrong, "" if nothing is. Without a `needed` one the service's work stands still."""

    name: str
    trouble: Callable[[], str]
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a part; `since` (ms since the epoch) and `reason` only if it is not UP."""

    name: str
    mark: Mark
    needed: bool
    since: int | None = None
    reason: str = ""


class Damped:
    """A check through time. Trouble adds up, and is forgotten half as fast: what fails most of the time is down, though never for long."""

    def __init__(self, check: Check) -> None:
        """Not looked at yet."""
        self.check = check
        self.is_down = False
        self._reason = ""
        self._since: int | None = None
        self._ill = False
        self._ill_s = 0.0
        self._well_s = 0.0

    def look(self, passed_s: float, wall: int, grace_s: float) -> None:
        """So long after the last look, at `wall` ms since the epoch."""
        was_ill, trouble = self._ill, self.check.trouble()
        self._ill = bool(trouble)
        if trouble:
            self._since = wall if self._since is None else self._since
            self._reason = trouble
            self._well_s = 0.0
            self._ill_s = min(grace_s, self._ill_s + (passed_s if was_ill else 0.0))
            self.is_down = self.is_down or self._ill_s >= grace_s
            return
        self._well_s += 0.0 if was_ill else passed_s
        self._ill_s = max(0.0, self._ill_s - passed_s / 2)
        if self._well_s >= grace_s / 2:
            self.is_down, self._ill_s = False, 0.0
        if not self.is_down and not self._ill_s:
            self._since = None

    @property
    def finding(self) -> Finding:
        """What is known."""
        if not self.is_down and not self._ill:
            return Finding(self.check.name, Mark.UP, self.check.needed)
        return Finding(self.check.name, Mark.DOWN if self.is_down else Mark.FAILING, self.check.needed, self._since, self._reason)


@dataclass(frozen=True, slots=True)
class HealthState:
    """One answer for all who ask."""

    status: Status
    ready: bool
    findings: Sequence[Finding] = ()

    @property
    def serving(self) -> bool:
        """Whether the work is done."""
        return self.status is not Status.ERROR


class Health:
    """Fed by `look`, about once a second; whoever asks is told what was found then, so asking costs nothing."""

    def __init__(self, checks: Iterable[Check] = (), *, grace_s: float = GRACE_S, now: Callable[[], float] = monotonic) -> None:
        """Not begun: ERROR and not ready. `now` in seconds, never steps."""
        self._checks = [Damped(check) for check in checks]
        self._grace_s = grace_s
        self._now = now
        self._looked: float | None = None
        self._begun = self._ended = False

    @property
    def state(self) -> HealthState:
        """As of the last look."""
        ready = self._begun and not self._ended
        findings = [check.finding for check in self._checks]
        down = [finding for finding in findings if finding.mark is Mark.DOWN]
        if not ready or any(finding.needed for finding in down):
            return HealthState(Status.ERROR, ready, findings)
        return HealthState(Status.DEGRADED if down else Status.OK, ready, findings)

    def begin(self) -> None:
        """The servers have answered: from now on they may be away for as long as the grace."""
        self._begun = True

    def end(self) -> None:
        """The service ends; that is for good."""
        self._ended = True

    def look(self, wall: int) -> None:
        """Look at every part, at `wall` ms since the epoch. Before the begin there is no grace: what has not answered yet is down."""
        now = self._now()
        passed_s = 0.0 if self._looked is None else min(now - self._looked, LONGEST_STEP_S)
        self._looked = now
        for check in self._checks:
            check.look(passed_s, wall, self._grace_s if self._begun else 0.0)


class Streak:
    """Calls that fail one after the other, for a part that nobody can ask how it is: in trouble after `MANY`, until one works.

    Nobody may call for long. What was heard last is believed for `QUIET_S`, so that one bad moment is not told for ever.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Nothing has failed; `now` in seconds."""
        self._now = now
        self._failures = 0
        self._failed_at = 0.0
        self._why = ""

    def worked(self) -> None:
        """A call worked, or there is a reason to begin anew."""
        self._failures = 0

    def failed(self, why: str) -> None:
        """A call failed by the fault of what was called."""
        self._failures += 1
        self._failed_at = self._now()
        self._why = why

    @property
    def trouble(self) -> str:
        """Why the last call failed; "" if there is no streak, or it was long ago."""
        return self._why if self._failures >= MANY and self._now() - self._failed_at < QUIET_S else ""


def checks_of(vitals: BackendStatus, *needed: str) -> list[Check]:
    """A check for each part; those named are needed."""
    return [Check(name, trouble, name in needed) for name, trouble in vitals.troubles.items()]
