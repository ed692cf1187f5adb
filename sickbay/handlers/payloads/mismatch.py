"""What is wrong with a payload: a path and a sentence for each mistake, in one notation for all libraries.

The sentences name types, never values: they go to the job's record, the logs and the quarantine's groups, and a payload can be secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sickbay.domain.errors import JobError
from sickbay.domain.outcome import OutcomeKind

MAX_SHOWN: Final = 3
"""So many mistakes are in a message."""
MAX_PATH_CHARS: Final = 200
MISSING: Final = "it is missing"
UNKNOWN: Final = "there is no such field"
NOT_ALLOWED: Final = "it is none of the allowed values"
CODE: Final = "VALIDATION_ERROR"
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is (`$.items[2].price`), and what is wrong there (`expected a number, got a string`)."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class PayloadMismatch(JobError):
    """A payload is not what the handler's type says: VALIDATION_ERROR, of kind data."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """The message has the first MAX_SHOWN problems."""
        super().__init__(CODE, message_of(problems), kind=OutcomeKind.DATA)
        self.problems = tuple(problems)


def message_of(problems: Sequence[Problem]) -> str:
    """The first problems in one line, and how many more there are."""
    more = len(problems) - MAX_SHOWN
    return "; ".join(map(str, problems[:MAX_SHOWN])) + (f" (and {more} more)" if more > 0 else "")


def path_of(steps: Iterable[str | int], root: str = "$") -> str:
    """The path of these names and indices below `root`: `$.items[2]["unit price"]`."""
    path = root + "".join(map(_step, steps))
    return path if len(path) <= MAX_PATH_CHARS else f"{path[: MAX_PATH_CHARS - 3]}..."


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN.fullmatch(step):
        return f".{step}"
    escaped = step.replace("\\", "\\\\").replace('"', '\\"')
    return f'["{escaped}"]'


def kind_of_value(value: Any) -> str:
    """What JSON calls a value: a string, a number, an object, ..."""
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return "an object"


_KINDS: Final[Sequence[tuple[Any, str]]] = (
    (type(None), "null"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    ((list, tuple), "a list"),
)
