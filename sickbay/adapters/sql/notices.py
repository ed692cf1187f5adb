"""What one process tells the others about a write, as the text of PostgreSQL notifications. Pure.

One line for each event: `<state> <generation> <attempt> <at> <started_at or -> <job id>`. It says enough that a reader who comes to the
row only after the next write can still tell this change; all else is read from the tables. A line of state X names a copy that was
called off, and those of earlier generations; a text with such lines begins with `!`, so that those who only want them need not look into
the others. A text `*` says only that there is news: look at everything. The words of `holds.py` go the same way.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sickbay.domain.job import JobEvent, JobState

MAX_BYTES: Final = 7_900
"""PostgreSQL takes less than 8,000."""
EVERYTHING: Final = "*"
CALLED_OFF: Final = "!"
ANY_ATTEMPT: Final = 2**31 - 1
"""What stands for the attempt of a copy that is called off: programs before 1.1 compare it."""

_LETTERS: Final = {
    JobState.QUEUED: "Q",
    JobState.RUNNING: "R",
    JobState.RETRYING: "T",
    JobState.PARKED: "P",
    JobState.QUARANTINED: "A",
    JobState.SUCCEEDED: "S",
    JobState.DISCARDED: "D",
    JobState.CANCELLED: "C",
}
_STATES: Final = {letter: state for state, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Notice:
    """A change that was written; times in ms."""

    job_id: str
    state: JobState
    generation: int
    attempt: int
    at: int
    started_at: int | None


def written(events: Iterable[JobEvent], called_off: Iterable[tuple[str, int]] = ()) -> list[str]:
    """The texts to send, each below PostgreSQL's limit, in the order of the events."""
    copies = [f"X {generation} {ANY_ATTEMPT} 0 - {job_id}" for job_id, generation in called_off]
    lines = [_line(event) for event in events if not event.duplicate]
    return [*texts(copies, CALLED_OFF), *texts(lines)]


def read(text: str, wanted: Container[str]) -> Iterator[Notice]:
    """The changes of wanted jobs in a text that calls nothing off."""
    for line in text.split("\n"):
        letter, generation, attempt, at, started_at, job_id = line.split(" ", 5)
        if job_id in wanted:
            began = None if started_at == "-" else int(started_at)
            yield Notice(job_id, _STATES[letter], int(generation), int(attempt), int(at), began)


def called_off(text: str) -> list[tuple[str, int]]:
    """What a text calls off: job id, and the generation up to which no run may begin any more."""
    if not text.startswith(CALLED_OFF):
        return []
    fields = [line.split(" ", 5) for line in text[1:].split("\n")]
    return [(job_id, int(generation)) for _, generation, _, _, _, job_id in fields]


def _line(event: JobEvent) -> str:
    job, started = event.job, event.started_at
    return f"{_LETTERS[event.state]} {job.generation} {job.attempt} {event.at} {'-' if started is None else started} {job.job_id}"


def texts(lines: list[str], prefix: str = "", spare: int = 0) -> Iterator[str]:
    """The lines, joined into as few texts as can be; EVERYTHING where one does not fit or would be read as two.

    Each line may still grow by `spare` bytes.
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
