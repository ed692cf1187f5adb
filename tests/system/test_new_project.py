"""What `sickbay new` writes works as it is: its tests pass, its handler runs, and its README does not lie."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.system_under_test import Product


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project."""
    subprocess.run([sys.executable, "-m", "sickbay_cli", "new", "my_project"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "my_project"


def test_its_tests_pass_and_its_handler_runs(project: Path):
    for words, said in (
        (["pytest", "-q", "-p", "no:cacheprovider"], "2 passed"),
        (["sickbay_cli", "run", "handlers.greet", '{"name": "Ada"}'], '"greeting": "Hello, Ada!"'),
    ):
        ran = subprocess.run([sys.executable, "-m", *words], cwd=project, capture_output=True, text=True, check=False)
        assert (ran.returncode, said in ran.stdout) == (0, True), ran.stdout + ran.stderr


def test_a_job_succeeds_in_it(project: Path, start: Callable[..., Product]):
    product = start(project, {}, options=["--handlers", "handlers"]).ready()
    with Clients(product) as sickbay:
        job_id = sickbay.submit("greet", {"name": "Ada"})
        sickbay.wait(job_id, "SUCCEEDED")
        assert sickbay.job(job_id)["result"] == {"greeting": "Hello, Ada!"}


def test_its_readme_names_commands_that_exist(project: Path):
    commands = set(re.findall(r"^sickbay (\w+)", (project / "README.md").read_text(), re.MULTILINE))
    assert commands == {"run", "up", "submit", "top"}
    for name in commands:
        shown = subprocess.run([sys.executable, "-m", "sickbay_cli", name, "--help"], capture_output=True, check=False)
        assert shown.returncode == 0
