"""How long an open breaker waits before its next probe.

Pure. `transitions.py` and `probes.py` decide when such a wait begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sickbay.breaker.document import Document
from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.outcome import Outcome

JITTER_SCALE: Final = 10_000
MAX_JITTER: Final = 1_000
"""`jitter` is drawn by the caller from 0 to this, in parts of JITTER_SCALE: up to 10 % on top of a grown cooldown."""
MAX_DOUBLINGS: Final = 20
MAX_RETRY_AFTER_MS: Final = 3_600_000
"""The longest Retry-After that is taken at its word: an hour."""


@dataclass(frozen=True, slots=True)
class Context:
    """Constant during one operation: the settings, the time and the jitter that the caller drew."""

    config: BreakerConfig
    now: int
    jitter: int


def longest_cooldown(config: BreakerConfig) -> int:
    """What a cooldown grows to, ms."""
    return max(config.max_cooldown_ms, config.cooldown_ms)


def asked_wait(outcome: Outcome) -> int:
    """How long the dependency asked everybody to wait, ms; 0 if it did not."""
    return min(outcome.retry_after_ms or 0, MAX_RETRY_AFTER_MS)


def next_wait(doc: Document, context: Context, outcome: Outcome) -> int:
    """How long until the probe: the cooldown, or longer if the dependency asked for that. A rate limit's own wait counts alone."""
    asked = asked_wait(outcome)
    return asked if outcome.is_rate_limit else max(next_cooldown(doc, context), asked)


def next_cooldown(doc: Document, context: Context) -> int:
    """The cooldown, doubled with each trip up to its maximum; by default the maximum is the cooldown itself."""
    longest = longest_cooldown(context.config)
    grown = min(longest, context.config.cooldown_ms << min(doc.trips, MAX_DOUBLINGS))
    return min(longest, grown + grown * context.jitter // JITTER_SCALE) if doc.trips else grown
