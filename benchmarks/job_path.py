"""How far one walks to follow one job: which files and functions are entered from `POST /jobs` until the ledger has its success.

    python -m benchmarks.job_path [--list]

Embedded, in this process, with the profiler's hook in every thread. What other parts do in the meantime (a look of the healer) counts, too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

HERE: Final = Path(__file__).parent
PACKAGES: Final = ("sickbay", "jobapi", "worker", "controlplane", "sickbay_cli")
NAMES: Final = ("jobapi-port", "worker-port", "control-plane-port", "jobapi-grpc-port", "worker-grpc-port", "control-plane-grpc-port")
FIRST_PORT: Final = 46150
BODY: Final = b'{"jobType": "noop", "payload": {"to": "user@example.com"}}'
TIMEOUT_S: Final = 30.0


class Walk:
    """The functions that were entered while it was on."""

    def __init__(self) -> None:
        """It is off."""
        self.is_on = False
        self.entered: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """The hook."""
        if self.is_on and event == "call":
            self.entered.add(frame.f_code)

    def files(self) -> dict[Path, int]:
        """The product's files that were entered, and how many of their functions."""
        root = HERE.parent
        found: Counter[Path] = Counter()
        for code in self.entered:
            path = Path(code.co_filename)
            if (
                path.is_relative_to(root)
                and path.relative_to(root).parts[0] in PACKAGES
                and not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
            ):
                found[path.relative_to(root)] += 1
        return dict(found)


def _wait(ready: Any) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit("the system did not come so far")
        time.sleep(0.005)


def _succeeded(ledger: Path) -> int:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'").fetchone()[0])
    return 0


def _post() -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{FIRST_PORT}/jobs", BODY, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own
            return bool(answer.status == 202)
    except OSError:
        return False


def _drive(walk: Walk, ledger: Path) -> None:
    """The second job is followed, so that what happens once is not counted."""
    try:
        _wait(_post)
        _wait(lambda: _succeeded(ledger) == 1)
        time.sleep(1)
        walk.is_on = True
        _post()
        _wait(lambda: _succeeded(ledger) == 2)
        walk.is_on = False
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the system, send two jobs, and print what the second one entered."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--list", action="store_true", help="name each file, the number of its lines and of its functions entered")
    options = arguments.parse_args()
    walk = Walk()
    threading.setprofile(walk)
    os.environ |= {"JOB_HANDLERS": "noop_handlers", "LOG_LEVEL": "WARNING"}
    sys.path.insert(0, str(HERE))
    from sickbay_cli.up import up  # noqa: PLC0415 - its threads have the hook

    with tempfile.TemporaryDirectory() as folder:
        driver = threading.Thread(target=_drive, args=(walk, Path(folder) / "ledger.db"), daemon=True)
        driver.start()
        sys.setprofile(walk)
        ports = [f"--{name}={port}" for port, name in enumerate(NAMES, FIRST_PORT)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            up.main(["--data", folder, *ports], standalone_mode=False)
        sys.setprofile(None)
        driver.join(TIMEOUT_S)
    files = walk.files()
    lines = {path: len((HERE.parent / path).read_text(encoding="utf-8").splitlines()) for path in files}
    if options.list:
        for path in sorted(files):
            print(f"{lines[path]:5} {files[path]:4} {path}")
    print(f"{len(files)} files, {sum(lines.values()):,} lines, {sum(files.values())} functions")


if __name__ == "__main__":
    main()
