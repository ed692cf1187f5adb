"""Parses LOG_LEVEL: a default level, and other levels for single modules. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_LOGGER: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Levels(NamedTuple):
    """The default level, and those of loggers (modules) and their children."""

    default: str
    modules: Mapping[str, str]


def parse(text: str) -> Levels:
    """Parse `INFO,worker.engine=DEBUG`; the default level may be omitted (INFO). ValueError with a sentence if it is invalid."""
    default, modules = "INFO", {}
    for number, part in enumerate(text.split(",")):
        name, equals, level = (word.strip() for word in part.rpartition("="))
        if level.upper() not in LEVELS or (not equals and number > 0):
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR, and may be followed by module levels, as in INFO,worker.engine=DEBUG")
        if not equals:
            default = level.upper()
        elif _LOGGER.fullmatch(name):
            modules[name] = level.upper()
        else:
            raise ValueError(f"{name!r} is not the name of a module, as in INFO,worker.engine=DEBUG")
    return Levels(default, modules)
