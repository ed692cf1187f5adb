"""The live screen of `sickbay top`: frames until `q`, Ctrl-C or a signal; whatever ends it, the terminal is as it was before."""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Self

from rich.console import Console
from rich.live import Live

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay_cli.exit_codes import INTERRUPTED
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint
from sickbay_cli.output import console
from sickbay_cli.top.frame import Frame, Reading, frame
from sickbay_cli.top.memory import ChangeLog, History
from sickbay_cli.top.readings import Source, source
from sickbay_cli.top.view import Size, lay_out

_QUIT: Final = b"qQ"
_TICK_S: Final = 1.0
"""Ages and countdowns move at least this often."""
_SLOW_S: Final = 2.0
"""When a reading takes longer, the screen says so."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP, signal.SIGWINCH)


def run(endpoints: Mapping[str, Endpoint], every_s: float, tenant: str = "") -> int:
    """Show frames until told to end; the exit code: 0 after `q`, 130 after Ctrl-C. SIGTERM ends the process as if it were not handled."""
    with ThreadPoolExecutor(1, "top-reader") as reader, source(endpoints, tenant) as asked:
        code = _Screen(console(), asked, reader, every_s).run()
    if code == -signal.SIGTERM:
        signal.raise_signal(signal.SIGTERM)
    return code


class _Screen:
    def __init__(self, terminal: Console, asked: Source, reader: ThreadPoolExecutor, every_s: float) -> None:
        self._terminal = terminal
        self._source = asked
        self._reader = reader
        self._every_s = every_s
        self._history = History()
        self._log = ChangeLog()
        self._told: queue.SimpleQueue[Breaker] = queue.SimpleQueue()
        self._reading = Reading((), None)
        self._pending: Future[Reading] | None = None
        self._asked_at = -every_s
        self._live = Live(console=terminal, screen=True, auto_refresh=False)

    def run(self) -> int:
        is_over = threading.Event()
        watcher = threading.Thread(target=self._source.watch, args=(self._told.put, is_over), name="top-watcher", daemon=True)
        watcher.start()
        try:
            with _Waker() as waker, _Keyboard() as keyboard, self._live:
                while True:
                    self._ask(waker)
                    self._live.update(lay_out(self._frame(), Size(self._terminal.width, self._terminal.height), self._hint()), refresh=True)
                    signals, keys = waker.wait(keyboard, self._wait_s())
                    if signal.SIGTERM in signals:
                        return -signal.SIGTERM
                    if signal.SIGINT in signals:
                        return INTERRUPTED
                    if any(key in _QUIT for key in keys):
                        return 0
                    if signal.SIGTSTP in signals:
                        self._suspend(keyboard)
        finally:
            is_over.set()

    def _ask(self, waker: _Waker) -> None:
        """Take the changes and the reading that have come, and ask for the next reading when it is time."""
        with suppress(queue.Empty):
            while True:
                self._log.add(self._told.get_nowait())  # before the reading, which may be newer and hide them
        if self._pending is not None and self._pending.done():
            self._reading, self._pending = self._pending.result(), None
            plane = self._reading.plane
            if plane is not None:
                self._history.add(plane)
                for breaker in plane.breakers:
                    self._log.add(breaker)
                self._log.retain(plane.breakers)
        if self._pending is None and self._age_s >= self._every_s:
            self._asked_at = time.monotonic()
            self._pending = self._reader.submit(self._source.read)
            self._pending.add_done_callback(lambda _: waker.wake())

    def _frame(self) -> Frame:
        return frame(self._reading, self._history.before, self._history.last, self._log.latest, now())

    @property
    def _age_s(self) -> float:
        return time.monotonic() - self._asked_at

    def _wait_s(self) -> float:
        return _TICK_S if self._pending else min(_TICK_S, max(0.0, self._every_s - self._age_s))

    def _hint(self) -> str:
        is_slow = self._pending is not None and self._age_s >= _SLOW_S
        return f"no answer for {self._age_s:.0f} s" if is_slow else "q quits"

    def _suspend(self, keyboard: _Keyboard) -> None:
        """Stop as Ctrl-Z does by default, with the terminal as it was, and go on when continued."""
        self._live.stop()
        keyboard.release()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, before)
        keyboard.take()
        self._live.start()


class _Keyboard:
    """Reads single keys without echo; does nothing if the input is no terminal."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[object] | None = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def sources(self) -> list[int]:
        """The file descriptor to wait for, if any."""
        return [] if self._fd is None else [self._fd]

    def take(self) -> None:
        """From now on keys come at once."""
        if self._fd is not None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)

    def release(self) -> None:
        """As it was before."""
        if self._fd is not None and self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]  # the list of tcgetattr
            self._before = None

    def read(self) -> bytes:
        """The keys that were pressed. A terminal that has gone presses `q`."""
        if self._fd is None:
            return b""
        with suppress(OSError):
            return os.read(self._fd, 1024) or _QUIT
        return _QUIT


class _Waker:
    """Waits for keys, signals and `wake`. Inside, signals that were not ignored only wake it, so nothing is interrupted half done."""

    def __init__(self) -> None:
        self._signals: list[int] = []

    def __enter__(self) -> Self:
        self._ours, self._theirs = os.pipe()
        for end in (self._ours, self._theirs):
            os.set_blocking(end, False)
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        # Not closed: a reading that is still under way may wake us.

    def wake(self) -> None:
        """From any thread."""
        with suppress(BlockingIOError):
            os.write(self._theirs, b"!")

    def wait(self, keyboard: _Keyboard, seconds: float) -> tuple[list[int], bytes]:
        """The signals and the keys that came; both may be empty."""
        ready, _, _ = select.select([self._ours, *keyboard.sources], [], [], seconds)
        if self._ours in ready:
            os.read(self._ours, 1024)
        signals, self._signals = self._signals, []
        return signals, keyboard.read() if set(keyboard.sources) & set(ready) else b""

    def _hear(self, number: int, _: object) -> None:
        self._signals.append(number)
        self.wake()
