"""Failed runs of a job, and how much is remembered of them: a job carries its failures, and its messages stay small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

MAX_FAILURES: Final = 10
MAX_FIRST_FAILURES: Final = 3
"""Of these the first so many, which show how it began; the others are the newest."""
MAX_MESSAGE_CHARS: Final = 500
MAX_TRACEBACK_BYTES: Final = 4_000
MAX_TRACEBACKS_BYTES: Final = 8_000
"""The limit for all failures of a job together: its messages stay small, and so do the ledger's rows."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed run: when (ms), in which generation and attempt, with which code, and what the handler said.

    `traceback` is text (`traceback_text.py`), at most MAX_TRACEBACK_BYTES of UTF-8; empty if unknown. `retry_at` is when the job was to
    run again (ms), 0 if it was not. `blameless` is how many of the job's attempts, this one included, do not count against it.
    """

    at: int
    generation: int
    attempt: int
    code: str
    message: str
    traceback: str = ""
    retry_at: int = 0
    blameless: int = 0


def first_and_newest(failures: Sequence[T]) -> Sequence[T]:
    """The failures that are remembered: all, or the first three and the newest seven."""
    if len(failures) <= MAX_FAILURES:
        return failures
    return (*failures[:MAX_FIRST_FAILURES], *failures[MAX_FIRST_FAILURES - MAX_FAILURES :])


def bounded_failures(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """Those that are remembered, with the newest of their tracebacks that fit into MAX_TRACEBACKS_BYTES, each whole or not at all."""
    failures = first_and_newest(failures)
    left, kept = MAX_TRACEBACKS_BYTES, []
    for failure in reversed(failures):
        size = len(failure.traceback.encode("utf-8", "replace"))
        left -= size
        kept.append(replace(failure, traceback="") if size and left < 0 else failure)
    return tuple(reversed(kept))


def last_bytes(text: str, most: int) -> str:
    """The end of a text, at most `most` bytes of UTF-8 including the dots that replace the rest."""
    data = text.encode("utf-8", "replace")
    if len(data) <= most:
        return text
    return "..." + data[len(data) - most + 3 :].decode("utf-8", "ignore")
