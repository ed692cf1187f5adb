"""A process of the product, seen from outside: through its streams and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any, Final

from sickbay.runtime.settings import describe_settings
from tests.support.forked import FORK_SERVER, Forked, can_fork

PATIENCE_S: Final = 60.0


class Lines:
    """A stream's lines, read by a thread, to be waited for."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._news = Condition()
        self._ended = False
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, wanted: Callable[[str], bool], timeout: float = PATIENCE_S) -> str | None:
        """The first such line, None if the stream ended without it."""
        with self._news:
            found = self._news.wait_for(lambda: self._ended or any(map(wanted, self._lines)), timeout)
            assert found, f"waited in vain, saw:\n{self.text}"
            return next(filter(wanted, self._lines), None)

    @property
    def text(self) -> str:
        """Everything so far."""
        return "".join(self._lines)

    def close(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(PATIENCE_S)
        self._stream.close()

    def _read(self) -> None:
        for line in self._stream:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Process:
    """`python -m WORDS...` in `folder`, with the variables of Sickbay taken from `env` alone."""

    def __init__(self, words: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        """Launch it, forked if that makes no difference (see `forked.py`); nothing is waited for."""
        whole = {name: value for name, value in os.environ.items() if name.upper() not in describe_settings()} | dict(env)
        self.process: subprocess.Popen[str] | Forked
        if can_fork(whole):
            self.process = FORK_SERVER.start(words, folder, whole)
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=folder,
                env=whole,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert self.process.stdout
        assert self.process.stderr
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)

    def logged(self, words: str) -> str | None:
        """Wait for a log line with these words; None if the process ended without one."""
        return self.err.wait_for(lambda line: words in line)

    @property
    def faults(self) -> list[Any]:
        """What it logged as an error; there is never a reason to."""
        return [entry for entry in map(_entry, self.err.text.splitlines()) if entry.get("level") in {"error", "critical", "unreadable"}]

    def terminate(self) -> None:
        """Ask it to stop, as Kubernetes and Ctrl-C do."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(PATIENCE_S)
        self.close()
        return code

    def close(self) -> None:
        """Read its streams to their end, which comes when nothing that it left behind has them any more. Twice is harmless."""
        self.out.close()
        self.err.close()

    def stop(self) -> None:
        """The end of a test: it stops when asked, with exit code 0 and without having logged a fault."""
        if self.process.returncode is None:
            self.terminate()
        self.end_well()

    def end_well(self) -> None:
        """It was asked to stop, or has stopped: with exit code 0, and without having logged a fault."""
        if self.process.returncode is None:
            try:
                code = self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            assert code == 0, self.err.text
        self.close()
        assert self.faults == [], self.faults


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {"level": "unreadable", "line": line}
    return entry if isinstance(entry, dict) else {"level": "unreadable", "line": line}
