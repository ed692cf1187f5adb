"""Runs pytest with the given arguments; a few tests that fail beside others run once more, alone: `run_tests.py ARGUMENTS...`.

The tests run in parallel and beside processes of their own, so on a busy machine a deadline may pass although nothing is wrong. A test that
also fails alone fails the run. One that passes alone is named at the end as flaky: its first failure is in the output and worth a look.
Compiled modules are kept also where PYTHONDONTWRITEBYTECODE says otherwise: some hundred processes import the same ones.
There is no second chance if tests of more than four files failed, or if one of `tests/chaos` did: what is lost once is lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

FEW: Final = 4
"""Files: a server that did not start in time fails every test of a file that shares it."""
NO_SECOND_CHANCE: Final = "tests/chaos"
FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")


def main(arguments: list[str]) -> int:
    """Run; the exit code of pytest."""
    FAILED.unlink(missing_ok=True)
    code = _pytest(arguments)
    failed = _failed()
    files = {one.partition("::")[0] for one in failed}
    if code != 1 or not files or len(files) > FEW or any(file.startswith(NO_SECOND_CHANCE) for file in files):
        return code
    print(f"\nOnce more, alone: {', '.join(failed)}", flush=True)
    code = _pytest([*arguments, "--last-failed", "--last-failed-no-failures=none", "-n0", "--no-cov"])
    if code == 0:
        print(f"Flaky: failed beside other tests, passed alone: {', '.join(failed)}", flush=True)
    return code


def _pytest(arguments: list[str]) -> int:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=env, check=False).returncode


def _failed() -> list[str]:
    """Ids of the tests that failed, as pytest's cache has them."""
    try:
        return sorted(json.loads(FAILED.read_text()))
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
