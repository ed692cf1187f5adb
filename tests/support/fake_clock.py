"""Processes whose wall clock is another one, by libfaketime; clocks that measure spans go on as they do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import libfaketime

LIBRARY: Final = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
_COMMON: Final = {"LD_PRELOAD": str(LIBRARY), "DONT_FAKE_MONOTONIC": "1"}


def ahead(by: str) -> Mapping[str, str]:
    """The variables of a process whose clock is ahead by so much: `+2s`, `-2s`, `+10m`."""
    return {**_COMMON, "FAKETIME": by}


class SteppedClock:
    """A clock that a test sets while the process runs, which sees it within a second."""

    def __init__(self, file: Path) -> None:
        """It is right."""
        self._file = file
        self.step("+0d")

    @property
    def env(self) -> Mapping[str, str]:
        """The variables of the process."""
        return {**_COMMON, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_CACHE_DURATION": "1"}

    def step(self, to: str) -> None:
        """Set it to this difference from the right time: `+1d`, `-30m`, `+0d`."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{to}\n")
        new.replace(self._file)
