"""The script that runs the tests on mutants (see `mutant_runs.py`): it has imported pytest and Hypothesis, and forks for each run.

Each line of its input is a request, `{"folder": ..., "words": [...], "env": {...}, "output": FILE}`.
The answer is a line with the exit code.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any, Final

PRELOADED: Final = ("pytest", "hypothesis.stateful", "hypothesis.internal.conjecture.engine", "asyncio", "_pytest.assertion.rewrite")


def _begin(request: dict[str, Any]) -> None:
    """Be like a process that was started for it, with an empty input."""
    for stream, name, flags in ((0, os.devnull, os.O_RDONLY), (1, request["output"], os.O_WRONLY), (2, request["output"], os.O_WRONLY)):
        fd = os.open(name, flags | os.O_APPEND)
        os.dup2(fd, stream)
        os.close(fd)
    os.chdir(request["folder"])
    os.environ.update(request["env"])
    sys.path[0] = request["folder"]


def main() -> int:
    """Fork for each request; in the forked process, the exit code of pytest."""
    for name in PRELOADED:
        import_module(name)
    while line := os.read(0, 1 << 16):  # one request at a time, and nothing read ahead
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _begin(request)
            return int(import_module("pytest").main(request["words"]))
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
