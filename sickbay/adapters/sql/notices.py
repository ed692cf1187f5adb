"""Encodes what a write changed as texts of PostgreSQL notifications for other processes. Pure.

One line per event: `<state> <generation> <attempt> <at> <started_at or -> <job id>`. That is enough to reconstruct the change even if the
row is read only after the next write; all else is read from the tables. A line of state X revokes a copy and those of earlier
generations; a text with such lines begins with `!`, so that processes without watchers need not parse the others. A line `K 0 0 0 - * <job
id>` asks workers to cancel a run of that job; a text has no other lines beside these. A text `*` means: read everything. The messages of
`holds.py` use the same channel. Programs ignore lines that they do not know, because their last field is no job id alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sickbay.domain.job import JobEvent, JobState

MAX_BYTES: Final = 7_900
"""PostgreSQL accepts less than 8,000."""
EVERYTHING: Final = "*"
REVOKED: Final = "!"
CANCEL_REQUESTED: Final = "K "
ANY_ATTEMPT: Final = 2**31 - 1
"""The attempt in a line that revokes a copy: programs before 1.1 compare it."""

_LETTERS: Final = {
    JobState.QUEUED: "Q",
    JobState.RUNNING: "R",
    JobState.RETRYING: "T",
    JobState.PARKED: "P",
    JobState.QUARANTINED: "A",
    JobState.SUCCEEDED: "S",
    JobState.DISCARDED: "D",
    JobState.CANCELLED: "C",
    JobState.SCHEDULED: "L",
}
_STATES: Final = {letter: state for state, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Notice:
    """A change in the ledger; times in ms."""

    job_id: str
    state: JobState
    generation: int
    attempt: int
    at: int
    started_at: int | None


def encode(events: Iterable[JobEvent], revoked: Iterable[tuple[str, int]] = (), to_cancel: Iterable[str] = ()) -> list[str]:
    """The texts to send, each within PostgreSQL's limit, in the order of the events."""
    copies = [f"X {generation} {ANY_ATTEMPT} 0 - {job_id}" for job_id, generation in revoked]
    requests = [f"{CANCEL_REQUESTED}0 0 0 - * {job_id}" for job_id in to_cancel]
    lines = [_line(event) for event in events if not event.duplicate]
    return [*texts(copies, REVOKED), *texts(requests), *texts(lines)]


def decode(text: str, wanted: Container[str]) -> Iterator[Notice]:
    """The changes of wanted jobs in a text without revoked copies."""
    for line in text.split("\n"):
        letter, generation, attempt, at, started_at, job_id = line.split(" ", 5)
        if job_id in wanted:
            began = None if started_at == "-" else int(started_at)
            yield Notice(job_id, _STATES[letter], int(generation), int(attempt), int(at), began)


def revoked_copies(text: str) -> list[tuple[str, int]]:
    """The copies that a text revokes: job id, and the generation up to which no run may begin any more."""
    if not text.startswith(REVOKED):
        return []
    fields = [line.split(" ", 5) for line in text[1:].split("\n")]
    return [(job_id, int(generation)) for _, generation, _, _, _, job_id in fields]


def jobs_to_cancel(text: str) -> list[str]:
    """The jobs of which a text asks to cancel a run."""
    if not text.startswith(CANCEL_REQUESTED):
        return []
    return [line.split(" ", 6)[6] for line in text.split("\n")]


def _line(event: JobEvent) -> str:
    job, started = event.job, event.started_at
    return f"{_LETTERS[event.state]} {job.generation} {job.attempt} {event.at} {'-' if started is None else started} {job.job_id}"


def texts(lines: list[str], prefix: str = "", spare: int = 0) -> Iterator[str]:
    """The lines, joined into as few texts as possible; EVERYTHING for a line that does not fit or contains a line break.

    `spare` bytes per line are left free.
    """
    piece: list[str] = []
    size = len(prefix)
    for line in lines:
        length = len(line.encode()) + 1 + spare
        if length + len(prefix) > MAX_BYTES or "\n" in line:
            yield EVERYTHING
            continue
        if size + length > MAX_BYTES:
            yield prefix + "\n".join(piece)
            piece, size = [], len(prefix)
        piece.append(line)
        size += length
    if piece:
        yield prefix + "\n".join(piece)
