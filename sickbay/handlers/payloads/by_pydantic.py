"""Payloads that pydantic reads: its models, its dataclasses, and what has such in it. Imported when such a type is met."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sickbay.handlers.payloads.mismatch import MISSING, NOT_ALLOWED, UNKNOWN, PayloadMismatch, Problem, kind_of_value, path_of

pydantic: Final[Any] = importlib.import_module("pydantic")
_FIELDS: Final = {"missing": MISSING, "missing_argument": MISSING, "extra_forbidden": UNKNOWN, "unexpected_keyword_argument": UNKNOWN}
_EXPECTED: Final = "Input should be "
_VALID: Final = re.compile(r"^a valid (\w+)")
_ABSENT: Final = object()


class Payload:
    """Implements `PayloadType`."""

    def __init__(self, annotation: Any, name: str) -> None:
        """Raises whatever pydantic raises if it cannot read the type."""
        self.name, self.cls = name, annotation
        self._adapter = pydantic.TypeAdapter(annotation)

    def decode(self, text: bytes) -> Any:
        """See the port."""
        try:
            return self._adapter.validate_json(text)
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
        raise PayloadMismatch(list(_problems(found, _read(text))))

    def schema(self) -> dict[str, Any]:
        """See the port."""
        found: dict[str, Any] = self._adapter.json_schema(by_alias=True, mode="validation")
        return found


def _problems(errors: Sequence[Any], payload: Any) -> Iterator[Problem]:
    for error in errors:
        kind, text = error["type"], str(error["msg"])
        steps, value = _follow(error["loc"], payload, is_missing=kind in _FIELDS)
        if kind in _FIELDS:
            text = _FIELDS[kind]
        elif kind == "union_tag_invalid":  # quotes the tag
            text = NOT_ALLOWED
        elif text.startswith(_EXPECTED):
            wanted = _VALID.sub(_article, text.removeprefix(_EXPECTED).partition(", ")[0])
            text = f"expected {wanted}, got {kind_of_value(value)}"
        yield Problem(path_of(steps), text[:1].lower() + text[1:])


def _article(found: re.Match[str]) -> str:
    noun = {"array": "list", "dictionary": "object"}.get(found[1], found[1])
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def _follow(location: Sequence[str | int], payload: Any, *, is_missing: bool) -> tuple[list[str | int], Any]:
    """The steps of a location that lead through the payload; the others name members of unions and validators."""
    steps: list[str | int] = []
    here = payload
    for number, step in enumerate(location, 1):
        below = _below(here, step)
        if below is not _ABSENT:
            here = below
        elif not (is_missing and number == len(location)):
            continue
        steps.append(step)
    return steps, here


def _below(here: Any, step: str | int) -> Any:
    if isinstance(here, dict):
        return here.get(step, _ABSENT)
    return here[step] if isinstance(here, list) and isinstance(step, int) and 0 <= step < len(here) else _ABSENT


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
