"""What was seen of one row: every submission and every start, in seconds of one monotonic clock of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Submit(NamedTuple):
    """Just before a job of the trickle was handed in."""

    at: float
    number: int


class Start(NamedTuple):
    """A handler began to run."""

    at: float
    kind: str
    number: int


@dataclass(slots=True)
class Trace:
    """Seconds.

    `flooded` is when the floods began, `over` when the last of their jobs had started or the watch ended, `ended` when nobody looked any
    more. `floods` has the numbers of the jobs of each flood.
    """

    flooded: float = 0.0
    over: float = 0.0
    ended: float = 0.0
    through: bool = False
    note: str = ""
    submits: list[Submit] = field(default_factory=list)
    floods: list[range] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)


class Starts:
    """The file to which every handler appends a line for each run, read as it grows."""

    def __init__(self, path: Path) -> None:
        """The file may not exist yet."""
        self._path, self._offset, self._rest = path, 0, b""
        self.seen: list[Start] = []
        self.numbers: set[int] = set()

    def read(self) -> None:
        """Take what was appended since."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = (self._rest + file.read()).split(b"\n")
            self._offset, self._rest = file.tell(), lines.pop()
        for line in lines:
            at, kind, number = line.split()
            self.seen.append(Start(float(at), kind.decode(), int(number)))
            self.numbers.add(int(number))


def opened() -> int:
    """That file, for a handler."""
    return os.open(os.environ["ISOLATION_STARTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def line(at: float, kind: str, number: int) -> bytes:
    """What a handler writes, in one call, so that lines of several processes do not mix."""
    return f"{at:.6f} {kind} {number}\n".encode()
