"""Sickbay as a user starts it: a process of its own, seen through its streams, its exit code and its ports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any, Final, Self

from sickbay.settings import described

PATIENCE_S: Final = 60.0
PORTS: Final = (
    "--jobapi-port",
    "--jobapi-grpc-port",
    "--worker-port",
    "--worker-grpc-port",
    "--control-plane-port",
    "--control-plane-grpc-port",
)
_ROW: Final = re.compile(r"^ {2}(Job API|Worker|Control plane) +http://localhost:(\d+) +gRPC localhost:(\d+) ")


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


class Product:
    """One run of `sickbay up` in `folder`, with its data in `folder/data` and six free ports."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> None:
        """Launch it; nothing is waited for. `options` come last, so they win."""
        own = {name: value for name, value in os.environ.items() if name.upper() not in described()}
        ports = [word for option in PORTS for word in (option, "0")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sickbay_cli", "up", "--data", "data", *ports, *options],
            cwd=folder,
            env=own | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stderr
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)

    def ready(self) -> Self:
        """Wait for the whole banner."""
        ended = self.out.wait_for(lambda line: line.startswith("Stop with Ctrl-C")) is None
        assert not ended, f"it did not start:\n{self.err.text}"
        return self

    @property
    def ports(self) -> Mapping[str, tuple[int, int]]:
        """The HTTP and the gRPC port of `Job API`, `Worker` and `Control plane`."""
        rows = filter(None, map(_ROW.match, self.out.text.splitlines()))
        return {row[1]: (int(row[2]), int(row[3])) for row in rows}

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
        self.out.close()
        self.err.close()
        return code

    def stop(self) -> None:
        """The end of a test: it stops when asked, with exit code 0 and without having logged a fault."""
        if self.process.returncode is None:
            self.terminate()
            try:
                code = self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            assert code == 0, self.err.text
        assert self.faults == []


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {"level": "unreadable", "line": line}
    return entry if isinstance(entry, dict) else {"level": "unreadable", "line": line}
