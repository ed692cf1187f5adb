"""Says in words what is wrong with a settings file, by the key, with a hint at what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError

from sickbay.domain.job import CODE_PATTERN, NAME_PATTERN, is_code, is_name

KnownKeys = Callable[[Sequence[str]], Sequence[str]]
"""The keys that the table at this path may have."""

_KEY: Final = "[key]"
"""The end of pydantic's location of a mistake that is in a key of a table."""
_NAME_IN_WORDS: Final = f"must match {NAME_PATTERN} (lower-case letters, digits, '.', '_' and '-', at most 64)"
_BELOW_A_TYPE: Final = len(("types", "NAME", "key"))


def mistakes_of(error: ValidationError, known_keys: KnownKeys) -> Iterator[str]:
    """A line for each mistake that pydantic has found."""
    for one in error.errors(include_url=False, include_context=False):
        where = [str(part) for part in one["loc"]]
        if where[-1:] == [_KEY]:
            yield f"{dotted(where[:-1])}: {_of_key(where[:-1])}"
        elif one["type"] == "extra_forbidden":
            yield f"{dotted(where)}: unknown key; {_hint(where, one['input'], known_keys(where[:-1]))}"
        elif one["type"] == "string_pattern_mismatch" and where[-1] == "dependency":
            yield f"{dotted(where)}: a dependency {_NAME_IN_WORDS} (it is {one['input'][:80]!r})"
        else:
            what = one["msg"].removeprefix("Value error, ")
            shown = "" if _may_be_secret(where) else f" (it is {str(one['input'])[:80]!r})"
            yield f"{dotted(where)}: {what[0].lower()}{what[1:]}{shown}"


def dotted(where: Sequence[str]) -> str:
    """A path of keys as TOML would write it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else repr(part) for part in where)


def _may_be_secret(where: Sequence[str]) -> bool:
    """Whether the value must not be shown: URLs and headers of handlers may have passwords in them."""
    return where[2:3] == ["handler"]


def _hint(where: Sequence[str], value: object, known: Sequence[str]) -> str:
    """What an unknown key may have been meant to be."""
    if near := get_close_matches(where[-1], known, n=1):
        return f"did you mean {near[0]}?"
    if len(where) == _BELOW_A_TYPE and isinstance(value, dict) and is_name(name := ".".join(where[1:])):
        kind = "tenant" if where[0] == "tenants" else "job type"
        return f'if the {kind} is {name}, write [{where[0]}."{name}"]'
    return f"known are {', '.join(known)}"


def _of_key(where: Sequence[str]) -> str:
    if where[-2:-1] in (["codes"], ["kinds"]):
        return _of_code(where[-1])
    return _of_name("tenant" if where[0] == "tenants" else "job type", where[-1])


def _of_code(code: str) -> str:
    hint = f"; did you mean {code.upper()}?" if is_code(code.upper()) else ""
    return f"an error code must match {CODE_PATTERN} (capital letters, digits and '_', at most 48){hint}"


def _of_name(kind: str, name: str) -> str:
    hint = f"; did you mean {name.lower()}?" if is_name(name.lower()) else ""
    return f"a {kind} {_NAME_IN_WORDS}{hint}"
