"""Runs of the tests on mutants, each in a process that is forked from one that has imported pytest and Hypothesis already."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support import mutant_runner


class Runner:
    """Runs tests of mutants, one mutant at a time (`mutant_runner.py`)."""

    def __enter__(self) -> Self:
        """Start it."""
        # Without plugins pytest starts in a third of the time, and these tests need none.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COV") and name != "PYTHONDONTWRITEBYTECODE"}
        environment = inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = [sys.executable, mutant_runner.__file__]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        """It ends when nobody can ask it any more."""
        self._process.communicate()

    def run(self, place: Path, *words: str, **env: str) -> tuple[int, str]:
        """What `python -m pytest WORDS...` returns and prints in a folder."""
        output = place / "output"
        request = {"folder": str(place), "words": ["-p", "no:cacheprovider", *words], "env": env, "output": str(output)}
        output.touch()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), output.read_text()

    def test(self, place: Path, tests: tuple[str, ...], **env: str) -> tuple[int, str]:
        """Until the first failure."""
        return self.run(place, "-x", "-q", "--tb=line", *tests, **env)
