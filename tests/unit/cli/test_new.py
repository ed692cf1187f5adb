"""`sickbay new` writes a project, and nothing over another. tests/system/test_new_project.py starts what it wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sickbay.version import VERSION
from sickbay_cli.new import FILES, project_name
from sickbay_cli.program import cli


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def new(*arguments: str):
    return CliRunner().invoke(cli, ["new", *arguments])


@pytest.mark.parametrize("folder", ["my_project", "somewhere/else/my_project"])
def test_it_writes_every_file_and_says_what_is_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str):
    monkeypatch.chdir(tmp_path)
    done = new(folder)
    assert done.exit_code == 0, done.output
    assert files(tmp_path / folder) == set(FILES)
    assert f"cd {folder} && sickbay up --handlers handlers" in done.output
    written = "\n".join((tmp_path / folder / name).read_text() for name in FILES)
    assert "_OF_" not in written
    assert f"sickbay[server]>={VERSION}\n" in written
    assert "name: my_project\n" in written


def test_the_current_folder_if_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    done = new(".")
    assert done.exit_code == 0, done.output
    assert files(tmp_path) == set(FILES)
    assert "cd " not in done.output


@pytest.mark.parametrize("name", ["notes.txt", ".git"])
def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    done = new(str(tmp_path))
    assert done.exit_code == 1
    assert done.output == f"Error: {tmp_path} is not empty; name a new folder\n"
    assert files(tmp_path) == {name}


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "taken").write_text("mine")
    assert new(str(tmp_path / "taken")).exit_code == 2
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize(("folder", "name"), [("My Project!", "my-project"), ("a_b", "a_b"), ("_x", "x"), ("Ünï", "n"), ("äöü", "project")])
def test_the_name_is_one_that_compose_takes(folder: str, name: str):
    assert project_name(Path(folder)) == name


def test_it_is_quick_since_it_loads_nothing_of_a_service(tmp_path: Path):
    run = f"CliRunner().invoke(cli, ['new', {str(tmp_path / 'fast')!r}])"
    loaded = "sys.exit(bool({'grpc', 'rich', 'google.protobuf', 'fastapi', 'sqlalchemy', 'pydantic'} & set(sys.modules)))"
    code = f"import sys; from click.testing import CliRunner; from sickbay_cli.program import cli; {run}; {loaded}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert files(tmp_path / "fast") == set(FILES)


def test_every_template_is_used():
    templates = Path(sys.modules["sickbay_cli.new"].__file__).parent / "project"
    assert {path.name.removesuffix(".template") for path in templates.iterdir()} == set(FILES.values())
