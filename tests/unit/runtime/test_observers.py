"""Observers of the user's own, by the setting OBSERVERS."""

import sys

import pytest

from sickbay.domain.errors import SettingsError
from sickbay.observer import Observer
from sickbay.runtime.observers import load_observers

CODE = """
from sickbay.observer import Observer

class Mine(Observer):
    pass

class Wants(Observer):
    def __init__(self, what):
        pass

ready = Mine()
other = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in ("my_observers", "my_broken"):
        sys.modules.pop(name, None)


def test_classes_and_instances(folder):
    (folder / "my_observers.py").write_text(CODE)
    made, ready = load_observers("my_observers:Mine, my_observers:ready")
    assert isinstance(made, Observer)
    assert ready is sys.modules["my_observers"].ready
    assert load_observers("") == load_observers(" , ") == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_observers", "must be module:name"),
        (":Mine", "must be module:name"),
        ("nowhere:Mine", "could not be loaded: ModuleNotFoundError"),
        ("my_observers:Wants", "could not be loaded: TypeError"),
        ("my_observers:Missing", "has no 'Missing'"),
        ("my_observers:other", "must be a sickbay.observer.Observer, or a class of them, not int"),
        ("my_broken:Mine", "could not be loaded: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_is_said(folder, name, says):
    (folder / "my_observers.py").write_text(CODE)
    (folder / "my_broken.py").write_text("1 / 0")
    with pytest.raises(SettingsError, match="OBSERVERS") as caught:
        load_observers(name)
    assert says in str(caught.value)
