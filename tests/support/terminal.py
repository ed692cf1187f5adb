"""A terminal with a command in it: what its screen shows, keys, and whether it is left as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self

PATIENCE_S: Final = 60.0
HOME: Final = "\x1b[H"
"""Where each frame begins."""
ENTER, LEAVE, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
_SIZES: Final = ("COLUMNS", "LINES")
"""Set by xdist for its workers; they would win against the size of the terminal."""
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs a command as the foreground job of a terminal of its own."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], lines: int = 24, columns: int = 80) -> None:
        self._ours, theirs = pty.openpty()
        self._theirs = theirs
        self.resize(lines, columns)
        self._before = termios.tcgetattr(theirs)
        self.text = ""
        self.process = subprocess.Popen(
            ["env", "--default-signal=INT,TSTP", "setsid", "--ctty", *command],
            env={name: value for name, value in os.environ.items() if name not in _SIZES} | {"TERM": "xterm-256color"} | dict(env),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    @property
    def screen(self) -> str:
        """The last frame that is complete, without colours."""
        frames = self.text.split(HOME)
        return _ESCAPES.sub("", frames[-2 if len(frames) > 1 and self.process.poll() is None else -1])

    @property
    def is_restored(self) -> bool:
        """Whether it has its settings and its first screen again, with a cursor."""
        last = self.text.rfind
        settled = termios.tcgetattr(self._theirs) == self._before
        return settled and last(LEAVE) > last(ENTER) >= 0 and last(CURSOR) > last("\x1b[?25l")

    def resize(self, lines: int, columns: int) -> None:
        """Its size from now on; the command is told."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def until(self, is_so: Callable[[str], bool]) -> str:
        """The first screen of which it is so."""
        end = time.monotonic() + PATIENCE_S
        while not is_so(self.screen):
            assert time.monotonic() < end, f"it never came to be; the last screen:\n{self.screen}"
            assert self._read(1.0) or self.process.poll() is None, f"it has ended:\n{self.text[-2_000:]}"
        return self.screen

    def ended(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        end = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end; the last screen:\n{self.screen}"
            self._read(0.1)
        while self._read(0):
            pass
        assert "Traceback" not in self.text
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if ready:
            self.text += os.read(self._ours, 65_536).decode("utf-8", "replace")
        return bool(ready)
