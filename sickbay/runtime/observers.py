"""Loads the user's observers, named by the setting OBSERVERS."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from sickbay.domain.errors import SettingsError
from sickbay.observer import Observer


def load_observers(names: str) -> Sequence[Observer]:
    """The observers in `module:name, module:name`: instances, or classes, which are called without arguments.

    SettingsError says what is wrong with one.
    """
    return [_load(name) for name in map(str.strip, names.split(",")) if name]


def _load(name: str) -> Observer:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise SettingsError(f"OBSERVERS must be module:name, for example my_observers:SlowJobs (it is {name!r})")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
        if isinstance(found, type) and issubclass(found, Observer):
            found = found()
    except Exception as error:
        raise SettingsError(f"OBSERVERS: {name} could not be loaded: {type(error).__name__}: {error}") from error
    if found is None:
        raise SettingsError(f"OBSERVERS: module {module!r} has no {attribute!r}")
    if not isinstance(found, Observer):
        raise SettingsError(f"OBSERVERS: {name} must be a sickbay.observer.Observer, or a class of them, not {type(found).__name__}")
    return found
