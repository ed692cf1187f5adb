"""The field `run` of a stored breaker: what it counts or remembers in entries, packed into one line of words.

A process of an earlier version refuses a document with a field that it does not know, and accepts any entry of this one. So whatever came
later is written as failures that it never acts on: of a breaker that is closed they are too few to open it, and the next success removes
them; of one that is open they mean nothing to it, and its next transition drops them.

    <seq> <at> <number> <code> <job>             a failure that counts
    0 <start> 1 CALLS <good>/<bad>               a bucket of runs (policy `rate`)
    1 1 0 PATIENCE <hung>/<patience>             how many probes in a row have hung, and the patience with this one
    <since> <until> 0 SUPERSEDED <token>         a superseded probe that still runs
    1 1 0 SLOW <number>                          how many of the good runs that the ramp has counted were slow
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sickbay.breaker.window import Bucket, Calls

BUCKET_CODE: Final = "CALLS"
PATIENCE_CODE: Final = "PATIENCE"
SUPERSEDED_CODE: Final = "SUPERSEDED"
SLOW_CODE: Final = "SLOW"


@dataclass(frozen=True, slots=True)
class CountedFailure:
    """One failure of a run. `number` counts the failures of its code from 1, so entries between two kept ones may be left out."""

    seq: int
    at: int
    number: int
    code: str
    job: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """A probe that took longer than its patience and may still run: its token, when it began, and the end of its lease."""

    token: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Entries:
    """All that is in the line; the names are those of the document."""

    run: tuple[CountedFailure, ...] = ()
    calls: Calls = ()
    hung: int = 0
    patience_ms: int = 0
    superseded: tuple[Superseded, ...] = field(default=())
    slow: int = 0


def packed(entries: Entries) -> str:
    """The line; empty if there is no entry."""
    words = [f"0 {bucket.start} 1 {BUCKET_CODE} {bucket.good}/{bucket.bad}" for bucket in entries.calls]
    if entries.hung or entries.patience_ms:
        words.append(f"1 1 0 {PATIENCE_CODE} {entries.hung}/{entries.patience_ms}")
    if entries.slow:
        words.append(f"1 1 0 {SLOW_CODE} {entries.slow}")
    words += [f"{one.since} {one.until} 0 {SUPERSEDED_CODE} {one.token}" for one in entries.superseded]
    words += [f"{failed.seq} {failed.at} {failed.number} {failed.code} {failed.job}" for failed in entries.run]
    return " ".join(words)


def unpacked(line: str) -> Entries:
    """The inverse; ValueError if it is not such a line."""
    words = iter(line.split())
    run: list[CountedFailure] = []
    calls: list[Bucket] = []
    superseded: list[Superseded] = []
    hung = patience_ms = slow = 0
    for seq, at, number, code, job in zip(words, words, words, words, words, strict=True):
        if not int(seq):
            calls.append(Bucket(int(at), *_pair(job)))
        elif int(number):
            run.append(CountedFailure(int(seq), int(at), int(number), code, job))
        elif code == PATIENCE_CODE:
            hung, patience_ms = _pair(job)
        elif code == SLOW_CODE:
            slow = int(job)
        else:
            superseded.append(Superseded(job, int(seq), int(at)))
    return Entries(tuple(run), tuple(calls), hung, patience_ms, tuple(superseded), slow)


def _pair(word: str) -> Sequence[int]:
    first, second = map(int, word.split("/"))
    return first, second
