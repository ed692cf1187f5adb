"""What a run returned, as it is kept with its job. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_RESULT_BYTES: Final = 64 * 1024
"""The limit for the JSON text of a result, in bytes of UTF-8."""
MAX_NOTE_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class Result:
    """What the handler of a successful run returned, if it was not None.

    `json` is its JSON text, at most MAX_RESULT_BYTES; it is empty if the result was not kept, and then `note` says why in a sentence.
    """

    json: bytes = b""
    note: str = ""


def too_large(size: int) -> Result:
    """A result that is not kept because its JSON text has `size` bytes."""
    return Result(note=f"the result has {size:,} bytes of JSON; at most {MAX_RESULT_BYTES:,} are kept")


def read_result(text: bytes) -> Result:
    """The result of a JSON text that somebody else has written: whether it is JSON is known, but neither its size nor its encoding."""
    if len(text) > MAX_RESULT_BYTES:
        return too_large(len(text))
    try:
        text.decode()
    except UnicodeDecodeError:
        return Result(note="the result is not UTF-8")
    return Result(text)
