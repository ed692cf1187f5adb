"""Whether a service works, and whether to send it traffic: the damped results of its checks. Pure.

Three questions with three answers, because they lead to different actions:

- *alive*: the process answers. Asked to decide on a restart; an unavailable server does not make it false.
- *ready*: its servers have answered once, and it is not stopping. Asked to route traffic. A server that fails later is unavailable to
  all replicas: if that made them unready, there would be nowhere to send traffic, what still works (reading while RabbitMQ is down) would
  be unreachable, and clients would see a refused connection instead of an error that says what is wrong and when to retry.
- *serving*: it works now. This follows its servers, after a grace period. Asked to alert people.
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
"""The longest time counted between two looks: if more has passed, the process was suspended and could not see whether a part worked."""
MIN_FAILURES: Final = 2
FAILURE_TTL_S: Final = 60.0


class Status(StrEnum):
    """The whole service: OK, DEGRADED if a part is down that is not needed, ERROR if a needed one is (or not ready yet, or stopping)."""

    OK = "ok"
    DEGRADED = "degraded"
    ERROR = "error"


class Mark(StrEnum):
    """One part: FAILING for less than the grace period, DOWN for longer, until it has been healthy for half of it."""

    UP = "up"
    FAILING = "failing"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Check:
    """A part. `trouble` returns what is wrong, from memory; "" if nothing is. The service cannot work without a `needed` part."""

    name: str
    trouble: Callable[[], str]
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of a part; `since` (ms since the epoch) and `reason` only if it is not UP."""

    name: str
    mark: Mark
    needed: bool
    since: int | None = None
    reason: str = ""


class DampedCheck:
    """A check over time. Failing time adds up, and is forgotten half as fast: a part that fails often but briefly is down, too."""

    def __init__(self, check: Check) -> None:
        """Not checked yet."""
        self.check = check
        self.is_down = False
        self._reason = ""
        self._since: int | None = None
        self._failing = False
        self._failing_s = 0.0
        self._healthy_s = 0.0

    def look(self, passed_s: float, wall: int, grace_s: float) -> None:
        """Check, `passed_s` after the last time, at `wall` ms since the epoch."""
        was_failing, trouble = self._failing, self.check.trouble()
        self._failing = bool(trouble)
        if trouble:
            self._since = wall if self._since is None else self._since
            self._reason = trouble
            self._healthy_s = 0.0
            self._failing_s = min(grace_s, self._failing_s + (passed_s if was_failing else 0.0))
            self.is_down = self.is_down or self._failing_s >= grace_s
            return
        self._healthy_s += 0.0 if was_failing else passed_s
        self._failing_s = max(0.0, self._failing_s - passed_s / 2)
        if self._healthy_s >= grace_s / 2:
            self.is_down, self._failing_s = False, 0.0
        if not self.is_down and not self._failing_s:
            self._since = None

    @property
    def finding(self) -> Finding:
        """The state of the part."""
        if not self.is_down and not self._failing:
            return Finding(self.check.name, Mark.UP, self.check.needed)
        return Finding(self.check.name, Mark.DOWN if self.is_down else Mark.FAILING, self.check.needed, self._since, self._reason)


@dataclass(frozen=True, slots=True)
class HealthState:
    """The health of a service at one moment."""

    status: Status
    ready: bool
    findings: Sequence[Finding] = ()

    @property
    def serving(self) -> bool:
        """Whether the service works."""
        return self.status is not Status.ERROR


class Health:
    """Updated by `look`, about once a second; `state` returns the last result, so it costs nothing."""

    def __init__(self, checks: Iterable[Check] = (), *, grace_s: float = GRACE_S, now: Callable[[], float] = monotonic) -> None:
        """Not ready yet: ERROR. `now` is a monotonic clock in seconds."""
        self._checks = [DampedCheck(check) for check in checks]
        self._grace_s = grace_s
        self._now = now
        self._last_look: float | None = None
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
        """The servers have answered: from now on the grace period applies."""
        self._begun = True

    def end(self) -> None:
        """The service is stopping, for good."""
        self._ended = True

    def look(self, wall: int) -> None:
        """Check every part, at `wall` ms since the epoch. Before `begin` there is no grace: a part that has not answered yet is down."""
        now = self._now()
        passed_s = 0.0 if self._last_look is None else min(now - self._last_look, LONGEST_STEP_S)
        self._last_look = now
        for check in self._checks:
            check.look(passed_s, wall, self._grace_s if self._begun else 0.0)


class Streak:
    """Consecutive failures of calls, for a part that has no health check: in trouble after `MIN_FAILURES`, until a call succeeds.

    There may be no calls for long, so the last failure counts only for `FAILURE_TTL_S`.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """Nothing has failed; `now` in seconds."""
        self._now = now
        self._failures = 0
        self._failed_at = 0.0
        self._why = ""

    def succeed(self) -> None:
        """A call succeeded, or earlier failures no longer count."""
        self._failures = 0

    def fail(self, why: str) -> None:
        """A call failed, and not because of the caller."""
        self._failures += 1
        self._failed_at = self._now()
        self._why = why

    @property
    def trouble(self) -> str:
        """Why the last call failed; "" if there is no streak, or it is long ago."""
        return self._why if self._failures >= MIN_FAILURES and self._now() - self._failed_at < FAILURE_TTL_S else ""


def checks_of(status: BackendStatus, *needed: str) -> list[Check]:
    """A check for each part; the named ones are needed."""
    return [Check(name, trouble, name in needed) for name, trouble in status.troubles.items()]
