"""Logs what breakers do: each change of their state once, however often a ramp moves."""

from __future__ import annotations

import logging

from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot


class BreakerLog:
    """One per healer, in whose log it writes."""

    def __init__(self, log: logging.Logger) -> None:
        """Write in `log`."""
        self._log = log
        self._logged: dict[BreakerKey, str] = {}

    def record(self, change: Snapshot) -> None:
        """Log it, unless it looks as before; a breaker of which nothing was logged yet is CLOSED."""
        description = _describe(change)
        if self._logged.get(change.key, BreakerState.CLOSED.value) != description:
            self._logged[change.key] = description
            self._log.info("breaker %s is %s", change.key.name, description)


def _describe(breaker: Snapshot) -> str:
    many = f"{breaker.reason_count} bad runs, the last" if breaker.by_rate else breaker.reason_count
    row = "" if breaker.by_rate else " in a row"
    cause = f" after {many} {breaker.reason_code}{row}" if breaker.reason_code and breaker.state.refuses else ""
    return f"{breaker.state}{cause}{', letting jobs in gradually' if breaker.recovering else ''}"
