"""Standard input, output and error of commands: always open, and able to write every character."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from typing import Final

_ESCAPE: Final = "sickbay-escape"
_MOST_COLUMNS: Final = 10_000
_SIZES: Final = ("COLUMNS", "LINES")
_LAST_OF_PLANE: Final = 0xFFFF


def prepare() -> None:
    """Called once, before a command prints anything."""
    _fill()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - stays open as long as the process
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # one that a test or an embedding program has put there
            stream.reconfigure(errors=_ESCAPE)  # type: ignore[union-attr]
    for name in _SIZES:
        if not _is_size(os.environ.get(name, "1")):
            del os.environ[name]


def forget() -> None:
    """Discard output that cannot be flushed, so that the interpreter does not complain at its exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _fill() -> None:
    """Open /dev/null for a closed descriptor, or the next connection would get its number and be written to."""
    for descriptor in range(3):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)


def is_text(text: str) -> bool:
    """Whether it can be sent: text from the system that is not UTF-8 has unpaired surrogates."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _is_size(text: str) -> bool:
    """Whether a variable is a plausible terminal size; libraries accept any digits, and make lines of that length."""
    return text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _MOST_COLUMNS and len(text) < 9  # noqa: PLR2004 - digits of a size


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Characters that the output's encoding lacks are written as in JSON: \u20ac, and two escapes beyond the first plane."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


def _escape(character: str) -> str:
    number = ord(character)
    if number <= _LAST_OF_PLANE:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"


codecs.register_error(_ESCAPE, _escaped)
