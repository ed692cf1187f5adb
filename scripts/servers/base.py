"""What every server of one's own can do: start and wait until it answers, be killed, frozen and thawed, and stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Final, Self

import psutil

from .ports import free_port, listens

PATIENCE_S: Final = 60
BINARIES: Final = os.environ.get("SICKBAY_TEST_BINARIES")


class Server(ABC):
    """One server; `folder` is made if it is missing, and everything of the server is in it."""

    package: ClassVar[str]
    """Debian's package."""
    _farewell: ClassVar[signal.Signals] = signal.SIGTERM
    _user: str | None = None

    def __init__(self, folder: Path) -> None:
        """Choose a port; nothing is started yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def binary(cls) -> str | None:
        """Where the package's program is, None if it is not installed."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it."""

    @property
    @abstractmethod
    def variables(self) -> Mapping[str, str]:
        """What tells the tests of it."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command(), env=dict(self._environment()), cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out, user=self._user
            )
        self._until(lambda: listens(self.port) and self._answers())

    def kill(self) -> None:
        """Kill -9 of the server with all its processes."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile, or by the end of its parent
                process.kill()
        psutil.wait_procs(family, PATIENCE_S)
        self._gone()

    def stop(self) -> None:
        """Ask it to end, and see to it that it does. Twice is harmless."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(self._farewell)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._gone()

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing answers."""
        for process in self._family():
            process.suspend()

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._family():
            process.resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self.folder / "out.log"

    def _family(self) -> list[psutil.Process]:
        """The server, then its children."""
        if self._process is None or self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def _gone(self) -> None:
        if self._process is not None:
            self._process.wait(PATIENCE_S)
            self._process = None

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self._process is not None and self._process.poll() is not None:
                self.start_again()
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.package} did not start within {PATIENCE_S} s; it said:\n{self._said()}")
            time.sleep(0.05)

    def start_again(self) -> None:
        """What to do when it ended instead of starting."""
        raise SystemExit(f"{self.package} did not start; it said:\n{self._said()}")

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
