"""`sickbay new`: a folder with a working start: a handler, its tests, and what starts it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from sickbay.version import VERSION

FILES: Final[Mapping[str, str]] = {
    "handlers.py": "handlers.py",
    "tests/test_handlers.py": "test_handlers.py",
    "requirements.txt": "requirements.txt",
    "pyproject.toml": "pyproject.toml",
    "Dockerfile": "Dockerfile",
    "compose.yaml": "compose.yaml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".dockerignore": "dockerignore",
}
"""The files of a new project, and the names of their templates."""
_TEMPLATES: Final = Path(__file__).parent / "project"
_EPILOG: Final = "\b\nExamples:\n  sickbay new my_project\n  cd my_project && sickbay up --handlers handlers --reload"


@click.command(epilog=_EPILOG)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def new(folder: Path) -> None:
    """Write a new project: a handler, its tests, a compose file.

    FOLDER is made if it does not exist, and must be empty if it does. Nothing is installed or started.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise click.ClickException(f"{folder} is not empty; name a new folder")
    name = project_name(folder)
    for path, template in FILES.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (_TEMPLATES / f"{template}.template").read_text("utf-8")
        target.write_text(text.replace("NAME_OF_PROJECT", name).replace("VERSION_OF_SICKBAY", VERSION), "utf-8")
        click.echo(f"wrote {target}")
    change = "" if folder.resolve() == Path.cwd().resolve() else f"cd {folder} && "
    click.echo(f"\nNext:\n\n  {change}sickbay up --handlers handlers --reload")
    click.echo('  sickbay submit greet \'{"name": "Ada"}\' --wait     # in another terminal')


def project_name(folder: Path) -> str:
    """The name of the folder as compose takes it: small letters, digits, `_` and `-`, beginning with a letter or digit."""
    return re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_") or "project"
