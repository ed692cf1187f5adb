"""Prometheus's own tool as the judge of what we write for it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

MISSING = (
    "this test needs prometheus and promtool: run `sudo apt-get install prometheus` "
    "(`make test` does where it may, `make test-embedded` leaves it out)"
)


def promtool(*words: str, text: str | None = None, cwd: object = None) -> None:
    """Run it; the test fails with what it says, or with one sentence where it is missing."""
    if shutil.which("promtool") is None:
        pytest.fail(MISSING, pytrace=False)
    done = subprocess.run(["promtool", *words], input=text, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not (words[:2] == ("check", "metrics") and said), said
