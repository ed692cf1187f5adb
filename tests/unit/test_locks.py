"""Tests of the locks: what they pin stays installable when newer versions of the same packages appear."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

PIN = re.compile(r"^(?P<name>[a-z0-9-]+)(?:\[(?P<extras>[a-z0-9,-]+)\])?==", re.MULTILINE)
NEED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)\[(?P<extras>[^\]]+)\](?!.*\bextra\b(?! == ['\"]server['\"]))")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_extras_are_pinned_with_their_package(lock: str) -> None:
    """Pip takes `coverage==1` for no pin of the `coverage[toml]` that pytest-cov needs, and so refuses once there is a newer coverage."""
    text = (Path(__file__).parents[2] / lock).read_text()
    pinned = {found["name"]: _names(found["extras"] or "") for found in PIN.finditer(text)}
    needed = [need for name in (*pinned, "sickbay") for need in _needs(name)]
    assert needed, "nothing needs an extra: has the lock another form?"
    missing = [f"{owner} needs {name}[{extra}]" for owner, name, extra in needed if extra not in pinned.get(name, set())]
    assert not missing


def _needs(owner: str) -> list[tuple[str, str, str]]:
    """The extras that a package needs of others, whatever its own extras are but our `server`; none if this Python has no use for it."""
    try:
        needs = requires(owner) or []
    except PackageNotFoundError:
        return []
    found = [need for need in map(NEED.match, needs) if need]
    return [(owner, _name(need["name"]), extra) for need in found for extra in _names(need["extras"])]


def _names(extras: str) -> set[str]:
    return {_name(extra) for extra in extras.split(",") if extra.strip()}


def _name(word: str) -> str:
    return re.sub(r"[-_.]+", "-", word.strip()).lower()
