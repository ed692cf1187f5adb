"""Processes of the product that are forked from one that has imported it already: a start then takes a tenth of the time.

A forked process runs `python -m WORDS...` in its own folder, with its own variables and streams, to the interpreter's own end. It differs
from an executed one in that modules are loaded already. Tests of starts and exits bear the marker `executed`;
`forked` is for what only keeps them company.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tests.support import fork_server

_READ_ONCE: Final = ("COVERAGE", "GRPC_", "LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "SSL_", "TZ")
"""Prefixes of variables that the interpreter and its libraries read while they are loaded."""

_SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class Forked:
    """As much of subprocess.Popen as the tests use."""

    def __init__(self, server: socket.socket, words: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        """Start it. Its streams are pipes, its input is empty."""
        self.args = words
        self.returncode: int | None = None
        out, child_out = os.pipe()
        err, child_err = os.pipe()
        status, child_status = os.pipe()
        self.stdout: IO[str] = os.fdopen(out, encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(err, encoding="utf-8")
        self._status = os.fdopen(status, "rb", buffering=0)
        request = json.dumps({"words": list(words), "folder": str(folder), "env": dict(env)})
        socket.send_fds(server, [request.encode()], [child_out, child_err, child_status])
        for fd in (child_out, child_err, child_status):
            os.close(fd)
        self.pid = self._told()

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that killed it; None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """The same, when it has ended; raises subprocess.TimeoutExpired if it has not within so many seconds."""
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = self._told()
            self._status.close()
        return self.returncode

    def _told(self) -> int:
        told = self._status.read(fork_server.STATUS.size)
        assert told, "the fork server has ended"
        return int(fork_server.STATUS.unpack(told)[0])


class ForkServer:
    """Begins with the first process, and ends with the tests."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self.enabled = True
        self._socket: socket.socket | None = None

    def start(self, words: Sequence[str], folder: Path, env: Mapping[str, str]) -> Forked:
        """Run `python -m WORDS...` with these variables and no others."""
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, fork_server.__file__, str(theirs.fileno())]
                process = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            atexit.register(_end, self._socket, process)
        return Forked(self._socket, words, folder, env)


def can_fork(env: Mapping[str, str]) -> bool:
    """Not with variables that are read while Python is loaded, not with signals ignored by inheritance, and not in tests of starts."""
    ignored = any(signal.getsignal(number) is signal.SIG_IGN for number in _SIGNALS)
    return FORK_SERVER.enabled and not ignored and _read_once(env) == _read_once(os.environ)


@contextmanager
def forked() -> Iterator[None]:
    """In a test with the marker `executed`: what starts meanwhile is only company for what the test is about, and is forked."""
    FORK_SERVER.enabled = True
    try:
        yield
    finally:
        FORK_SERVER.enabled = False


def _read_once(env: Mapping[str, str]) -> dict[str, str]:
    """Without settings of the product (`GRPC_PORT` is one), which are read at each start."""
    from sickbay.runtime.settings import describe_settings  # not before coverage is measured, as it is when conftest.py is loaded

    return {name: value for name, value in env.items() if name.startswith(_READ_ONCE) and name not in describe_settings()}


def _end(server: socket.socket, process: subprocess.Popen[bytes]) -> None:
    server.close()
    process.wait()


FORK_SERVER: Final = ForkServer()
"""One for all tests of this process."""
