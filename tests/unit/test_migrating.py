"""The code for Sickbay in docs/migrating.md runs, with the product in memory; that for others is at least Python."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sickbay.handlers.registry import MARK
from sickbay.testing import System, start_system

PAGE: Final = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
FOREIGN: Final = ("# Celery", "# Dramatiq")
HANDLERS, PROGRAM, TEST, OBSERVER, ELSEWHERE = (
    "# Sickbay: my_handlers.py",
    "# Sickbay: a program",
    "# Sickbay: a test",
    "# Sickbay: my_observers.py, with OBSERVERS=my_observers:Tell",
    "# Sickbay, with Django, SQLAlchemy or psycopg: recipes.md has the rest",
)
ELSEWHERE_RUN: Final = (Path(__file__).parents[2] / "examples/django/shop/views.py").read_text("utf-8")


def sections() -> dict[str, list[str]]:
    """The blocks of Python by the heading that they are below."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        if blocks:
            found[section.partition("\n")[0]] = blocks
    return found


SECTIONS: Final = sections()
ENDED: Final = {
    "A task and its call": [("email", "SUCCEEDED")],
    "Results": [("total", "SUCCEEDED")],
    "One after the other": [("resize", "SUCCEEDED"), ("fetch", "SUCCEEDED")],
    "Many at once": [("email", "SUCCEEDED")] * 3,
}
"""The jobs that a section's programs leave behind, newest first."""
PRINTED: Final = {
    "A task and its call": "to ada@example.com Hello\n",
    "Results": "6\n",
}


def pay(account: str, cents: int) -> None:
    """What the page's handlers call."""
    if account == "down":
        raise ConnectionRefusedError
    if cents < 0:
        raise ValueError(cents)


def blocks_of(title: str, kind: str) -> list[str]:
    return [block for block in SECTIONS[title] if block.partition("\n")[0] == kind]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The handlers' module of the page."""
    made = types.ModuleType("my_handlers")
    vars(made).update(pay=pay, is_ready=lambda report: report == "ready")
    exec("from sickbay import Job, handler", vars(made))  # noqa: S102 - it is the page's code
    monkeypatch.setitem(sys.modules, "my_handlers", made)
    return made


@contextlib.contextmanager
def system_of(module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    with start_system([spec.function for spec in vars(module)[MARK]]) as system:
        monkeypatch.setenv("SICKBAY_JOBAPI", system.address)
        yield system


def test_each_block_says_whose_it_is():
    known = {HANDLERS, PROGRAM, TEST, OBSERVER, ELSEWHERE}
    heads = [block.partition("\n")[0] for blocks in SECTIONS.values() for block in blocks]
    assert [head for head in heads if head not in known and not head.startswith(FOREIGN)] == []
    assert len(heads) > 30


@pytest.mark.parametrize("title", SECTIONS)
def test_it_is_python(title: str):
    for block in SECTIONS[title]:
        compile(block, title, "exec")


@pytest.mark.parametrize("title", [title for title in SECTIONS if blocks_of(title, HANDLERS) or blocks_of(title, PROGRAM)])
def test_the_code_for_sickbay_runs(title: str, module: types.ModuleType, monkeypatch: pytest.MonkeyPatch):
    handlers = blocks_of(title, HANDLERS) or blocks_of("A task and its call", HANDLERS)
    exec("\n".join(handlers), vars(module))  # noqa: S102 - it is the page's code
    for block in blocks_of(title, TEST):
        exec(block, {**vars(module)})  # noqa: S102 - the same
    programs = blocks_of(title, PROGRAM)
    if not programs:
        return
    printed = io.StringIO()
    with system_of(module, monkeypatch) as system, contextlib.redirect_stdout(printed):
        names: dict[str, Any] = {"client": system.client, "addresses": ["a@example.com", "b@example.com", "c@example.com"]}
        for block in programs:
            exec(block, names)  # noqa: S102 - the same
        while len(jobs := list(system.client.list())) < len(ENDED[title]) or any(job.state != "SUCCEEDED" for job in jobs):
            system.drain()
        assert [(job.job_type, job.state) for job in jobs] == ENDED[title]
        for made in {id(one): one for one in (names["client"], *_cached(module)) if one is not system.client}.values():
            made.close()
    assert PRINTED.get(title, "") in printed.getvalue()


def _cached(module: types.ModuleType) -> list[Any]:
    """The client that handlers of the page have made."""
    return [vars(module)["client"]()] if "client" in vars(module) else []


def test_the_observer_can_be_loaded():
    (block,) = blocks_of("Hooks", OBSERVER)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - it is the page's code
    names["Tell"]().settled(types.SimpleNamespace(code="", job=None))


def test_what_is_said_of_django_is_in_its_recipe():
    (block,) = blocks_of("After the commit", ELSEWHERE)
    assert block.strip().splitlines()[-1] in ELSEWHERE_RUN
