"""Resuming an interrupted watch: the meaning of `resume_token`.

For a job it names the last change that was sent, in the order of truth, so that the history of any process has the later ones. For
breakers, which have no history, it is a digest of all that was sent: if they still have the same digest, nothing was missed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import Final

from sickbay.domain.breaker import BreakerKey, Snapshot
from sickbay.domain.job import JobRecord, JobState, StateChange
from sickbay.domain.truth import Truth, truth

_TOKEN: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([A-Z]{1,20})")
_STATES: Final = {state.value for state in JobState}
_BYTES: Final = 8


def parse_token(token: str) -> Truth | None:
    """The position that a job's token names; None if it is not one of ours."""
    found = _TOKEN.fullmatch(token)
    if found is None or found[3] not in _STATES:
        return None
    return truth(JobState(found[3]), int(found[1]), int(found[2]))


def position(change: StateChange) -> Truth:
    """The position of a change in the order of truth."""
    return truth(change.state, change.generation, change.attempt)


def position_of(record: JobRecord) -> Truth:
    """The position of a job in the order of truth."""
    return truth(record.state, record.job.generation, record.job.attempt)


def token(change: StateChange) -> str:
    """The token after this change."""
    return f"{change.generation}.{change.attempt}.{change.state.value}"


def token_of(record: JobRecord) -> str:
    """The token after a job was sent in its current state."""
    return f"{record.job.generation}.{record.job.attempt}.{record.state.value}"


class SentBreakers:
    """The breakers that a watch has sent, each in the state in which it was sent last."""

    def __init__(self, breakers: Iterable[Snapshot] = ()) -> None:
        """Start with those that were sent already."""
        self._digests: dict[BreakerKey, int] = {}
        self._all = 0
        for breaker in breakers:
            self.add(breaker)

    def add(self, breaker: Snapshot) -> None:
        """Record one that is sent now."""
        digest = _digest(breaker)
        self._all ^= digest ^ self._digests.get(breaker.key, 0)
        self._digests[breaker.key] = digest

    def retain(self, keys: Collection[BreakerKey]) -> None:
        """Forget all others, which no longer exist."""
        for key in self._digests.keys() - keys:
            self._all ^= self._digests.pop(key)

    @property
    def token(self) -> str:
        """Equal for watches that have sent the same."""
        return self._all.to_bytes(_BYTES, "big").hex()


def _digest(breaker: Snapshot) -> int:
    """Digest of the fields that every change alters and nothing else does (a cooldown elapses by itself); the time detects a new start."""
    text = repr((breaker.key.name, breaker.state.value, breaker.epoch, breaker.rev, breaker.updated_at))
    return int.from_bytes(blake2b(text.encode(), digest_size=_BYTES).digest(), "big")
