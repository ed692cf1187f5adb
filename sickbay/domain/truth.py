"""The order of truth of a job's states: which of two events is the later one.

`(generation, attempt, rank)` decides, with two exceptions. A success is sticky: within its generation it is above everything else,
whatever the attempt, because the job really ran. Below it, a cancellation and a discard are sticky: a client got the answer that no further
run will begin, so no later attempt takes them back. Two successes of one generation are equal, as are two cancellations or discards.
"""

from __future__ import annotations

from typing import Final

from sickbay.domain.job import JobState

Truth = tuple[int, int, int, int]

CANCELLED_OR_DISCARDED: Final = frozenset({JobState.CANCELLED, JobState.DISCARDED})


def truth(state: JobState, generation: int, attempt: int) -> Truth:
    """The key by which events, rows and copies are compared; the greater is the later."""
    if state is JobState.SUCCEEDED:
        return (generation, 2, 0, 0)
    if state in CANCELLED_OR_DISCARDED:
        return (generation, 1, 0, 0)
    return (generation, 0, attempt, state.rank)
