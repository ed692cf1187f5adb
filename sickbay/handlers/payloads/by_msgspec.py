"""Payloads that msgspec reads: its Structs, dataclasses, classes of attrs and TypedDicts. Imported when such a type is met."""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

from sickbay.handlers.payloads.mismatch import MISSING, NOT_ALLOWED, UNKNOWN, PayloadMismatch, Problem, path_of

msgspec: Final[Any] = importlib.import_module("msgspec")
_PLACE: Final = re.compile(r" - at ((?:`key` in )?)`([^`]*)`$")
_FIELD: Final = re.compile(r"^Object (?:missing required|contains unknown) field `(.*)`$")
_QUOTING: Final = re.compile(r"^Invalid (?:enum )?value .*", re.DOTALL)
"""What msgspec says of values that are none of those allowed, with the value."""
_WORDS: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
    "object": "an object",
    "array": "a list",
}


class Payload:
    """Implements `PayloadType`."""

    def __init__(self, annotation: Any, name: str) -> None:
        """Raises whatever msgspec raises if it cannot read the type."""
        self.name, self.cls = name, annotation
        self._decode = msgspec.json.Decoder(annotation).decode
        msgspec.json.schema(annotation)  # of what it does not know it would need a hook

    def decode(self, text: bytes) -> Any:
        """See the port."""
        try:
            return self._decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = str(error)
        raise PayloadMismatch([_problem(message)])

    def schema(self) -> dict[str, Any]:
        """See the port."""
        found: dict[str, Any] = msgspec.json.schema(self.cls)
        return found


def _problem(message: str) -> Problem:
    """The one mistake that msgspec tells: the first."""
    place = _PLACE.search(message)
    path = place[2] if place else "$"
    text = message[: place.start()] if place else message
    if field := _FIELD.match(text):
        return Problem(path_of([field[1]], path), MISSING if text.startswith("Object missing") else UNKNOWN)
    words = NOT_ALLOWED if _QUOTING.match(text) else re.sub(r"`([^`]*)`", _word, text)
    return Problem(path_of((), path), ("a name in it: " if place and place[1] else "") + words[:1].lower() + words[1:])


def _word(found: re.Match[str]) -> str:
    return " or ".join(_WORDS.get(one, one) for one in found[1].split(" | "))
