"""What the bytes of a connection say about limits that grpc's core applies by itself, without reporting it. Pure.

Without calls, all that passes are pings, their answers of the same size, and at the end core's GOAWAY with a text. Times are in seconds of
a clock that never steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sickbay.domain.limits import Limits
from sickbay.server.grpc.meter import Reason
from sickbay.server.grpc.sockets import Connection

PING_BYTES: Final = 17
GOAWAY_BYTES: Final = 25
"""A GOAWAY with a text has at least this many; all of core's have more."""
GREETING_BYTES: Final = 89
"""An upper bound of what the server sends on a new connection before it answers: its settings, and pings that measure the network."""
ANSWER_BYTES: Final = 125
"""Core's rejection of a call for its size has at least this many bytes; an expired deadline fewer, and a cancelled call is not answered."""
ANSWERED_S: Final = 1.5
"""Core delays such an answer by up to a second."""
LATE_S: Final = 1.5
"""By this much a change may be older than the check that shows it."""
_TOO_MANY_PINGS: Final = (17 + len("too_many_pings")) % PING_BYTES
"""What core's GOAWAY about pings leaves over, when the sizes of pings are taken away."""


@dataclass(slots=True)
class History:
    """A connection at its checks: `last` is the latest one, at `seen_at`.

    It is quiet while no call or watch of it is in progress or begins; `base` is the first check of that time, which began at `quiet_since`.
    `stuck_since` is when the client's machine stopped confirming what it is sent, `hasty_at` when the client sent pings too fast.

    With TLS, `is_encrypted`, the sizes of pings and answers cannot be told from others: too many pings and rejections for their size, which
    core goes on to enforce, are not recognized.
    """

    last: Connection
    seen_at: float
    is_encrypted: bool = False
    base: Connection = field(init=False)
    quiet_since: float = field(init=False)
    stuck_since: float | None = None
    hasty_at: float | None = None
    _pinged_at: float | None = None
    _was_busy: bool = False
    _had_calls: bool = False
    _unreceived: int = 0
    _unreceived_since: float = 0.0
    _before: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.base, self.quiet_since = self.last, self.seen_at
        self._before = self.last._replace(sent=GREETING_BYTES)

    def update(self, seen: Connection, now: float, *, calls: bool, is_open: bool, ping_interval_s: float) -> None:
        """Add a check; `calls` if one began since the previous check, `is_open` if one is in progress."""
        is_busy = calls or is_open
        if is_busy:
            self.quiet_since = now
        if is_busy or self._was_busy:
            self.base = seen
        if not calls and not self._had_calls and not self.is_encrypted:
            self._count_pings(seen.received - self.last.received, now, ping_interval_s)
        if not seen.unacked:
            self.stuck_since = None
        elif self.stuck_since is None or seen.acked != self.last.acked:
            self.stuck_since = now
        self._was_busy, self._had_calls = is_busy, calls
        self.last, self.seen_at = seen, now

    def rejected(self, seen: Connection, fresh: int, now: float, *, is_busy: bool) -> int:
        """How many calls core has rejected for their size, of those that ended without a message, `fresh` of them since the previous check.

        To be called before `update`. Core's answer is recognized by the bytes that were sent, unless other calls were answered, too.
        """
        if self.is_encrypted:
            return 0
        if fresh and not self._unreceived:
            self._unreceived_since = now
            if self.last is not seen:
                self._before = self.last
        self._unreceived += fresh
        if is_busy or not self._unreceived:
            self._unreceived = 0
            return 0
        found = self._unreceived if seen.sent - self._before.sent >= ANSWER_BYTES * self._unreceived else 0
        if found or now - self._unreceived_since > ANSWERED_S:
            self._unreceived = 0
        return found

    @property
    def is_doubtful(self) -> bool:
        """Whether calls without a message are still to be judged."""
        return self._unreceived > 0

    def needs_witness(self, now: float, limits: Limits) -> bool:
        """Whether core may close it soon."""
        return self._is_hasty(now, limits) or now - self.quiet_since >= limits.idle_s - 2 * LATE_S

    def reason(self, end: Connection | None, now: float, limits: Limits, *, calls: bool) -> Reason | None:
        """The limit because of which core has closed it; None if its client did.

        `end` is how it ended, if a second descriptor shows it, `calls` whether one began since the last check.
        """
        if self.last.sent < 0:
            return None
        patience = limits.keepalive_timeout_s
        silent_s = self.last.silent_s + now - self.seen_at if end is None else end.silent_s
        is_stuck = self.stuck_since is not None and now - self.stuck_since >= _almost(patience)
        if is_stuck or silent_s >= limits.keepalive_s + _almost(patience):
            return Reason.KEEPALIVE
        is_idle = now - self.quiet_since >= _almost(limits.idle_s)
        if calls or end is None:
            return Reason.IDLE if is_idle and not calls else None
        return self._shown(end, silent_s, now, limits, is_idle=is_idle)

    def _shown(self, end: Connection, silent_s: float, now: float, limits: Limits, *, is_idle: bool) -> Reason | None:
        """The limit that the last bytes show."""
        sent, received = end.sent - self.base.sent, end.received - self.base.received
        if not self.is_encrypted and _are_pings(received) and sent >= GOAWAY_BYTES and not is_idle and self._is_goaway(sent, now, limits):
            return Reason.PINGS
        if self._was_busy or sent - received < GOAWAY_BYTES:
            return None
        if is_idle:
            return Reason.IDLE
        is_silent = silent_s >= _almost(limits.keepalive_timeout_s)  # core also pings after a call, to measure the network
        return Reason.KEEPALIVE if is_silent else None

    def _is_goaway(self, sent: int, now: float, limits: Limits) -> bool:
        """Whether something else than pings is in these bytes; during a watch it may be a response, so that more has to fit."""
        if not self._was_busy:
            return sent % PING_BYTES != 0
        return sent % PING_BYTES == _TOO_MANY_PINGS and self._is_hasty(now, limits)

    def _is_hasty(self, now: float, limits: Limits) -> bool:
        return self.hasty_at is not None and now - self.hasty_at < 2 * limits.ping_interval_s + LATE_S

    def _count_pings(self, fresh: int, now: float, ping_interval_s: float) -> None:
        if fresh <= 0 or fresh % PING_BYTES:
            return
        if fresh > PING_BYTES or (self._pinged_at is not None and now - self._pinged_at < ping_interval_s):
            self.hasty_at = now
        self._pinged_at = now


def _almost(seconds: float) -> float:
    return max(seconds - LATE_S, seconds / 2)


def _are_pings(received: int) -> bool:
    """Whether these bytes are pings, and perhaps the end of the connection, which counts as one."""
    return received >= PING_BYTES and received % PING_BYTES <= 1
