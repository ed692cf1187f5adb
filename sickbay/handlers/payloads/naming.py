"""Says which job type payloads of a class belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from sickbay.domain.job import NAME_PATTERN, is_name

MARK: Final = "__sickbay_job_type__"
"""The attribute of a class that holds its job type."""
C = TypeVar("C", bound=type)


def job_type(name: str) -> Callable[[C], C]:
    """Say that payloads of the decorated class are those of this job type, so that `client.submit(Email(...))` needs no name.

    Raises ValueError if the name is invalid. A subclass has its parent's job type until it is given its own.
    """
    text: object = name
    if not isinstance(text, str) or not is_name(text):
        msg = f'a job type must match {NAME_PATTERN}, not {name!r:.100}: write @job_type("email") above the class'
        raise ValueError(msg)

    def mark(cls: C) -> C:
        setattr(cls, MARK, name)
        return cls

    return mark


def job_type_of(cls: Any) -> str:
    """The job type of a class; empty if it has none."""
    found = getattr(cls, MARK, "") if isinstance(cls, type) else ""
    return found if isinstance(found, str) else ""
