"""Prints the changelog's section of a version, `release_notes.py 1.2.3`; refuses one that the project does not have."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def notes(version: str, changelog: str, project: str) -> str:
    """The section without its heading; ValueError with a sentence if version, changelog and pyproject.toml do not agree."""
    named = tomllib.loads(project)["project"]["version"]
    if named != version:
        raise ValueError(f"pyproject.toml says {named}, the tag says {version}")
    found = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no section like `## [{version}] - 2026-11-24` with something in it")
    return found[1].strip() + "\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(notes(sys.argv[1], (ROOT / "CHANGELOG.md").read_text(), (ROOT / "pyproject.toml").read_text()))
    except (IndexError, ValueError) as error:
        sys.exit(f"no release: {error}")
