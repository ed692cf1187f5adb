"""Removes secrets from the texts of failed runs, with a function of the user that the setting REDACT names.

It is applied to each text before that leaves the process, and before it is truncated: messages and tracebacks of failures, and every line
of the log. If it fails in any way, the text is replaced, never let through.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import CoroutineType
from typing import Any, Final

from sickbay.domain.errors import SettingsError
from sickbay.domain.failure import MAX_MESSAGE_CHARS, MAX_TRACEBACK_BYTES, last_bytes
from sickbay.domain.outcome import Outcome
from sickbay.domain.raised import Redact, class_name, clean, is_a, plain

MAX_CHARS: Final = 100_000
"""The maximum length of a redacted text."""
_TRIAL: Final = "a trial"
_busy: Final[ContextVar[bool]] = ContextVar("redacting", default=False)


def load_redaction(name: str) -> Redact | None:
    """The function that `module:function` names, made safe; None for an empty name. SettingsError says what is wrong with it."""
    if not name:
        return None
    module, _, function = name.partition(":")
    if not module or not function:
        raise SettingsError(f"REDACT must be module:function, for example my_handlers:without_secrets (it is {name!r})")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:
        raise SettingsError(f"REDACT: module {module!r} could not be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise SettingsError(f"REDACT: module {module!r} has no function {function!r}")
    try:
        answer = found(_TRIAL)
    except Exception as error:
        raise SettingsError(f"REDACT: {name} takes one text, and raised {type(error).__name__} for {_TRIAL!r}: {error}") from error
    if isinstance(answer, CoroutineType):
        answer.close()
    if not isinstance(answer, str):
        raise SettingsError(f"REDACT: {name} must be a plain function that returns a text, not {type(answer).__name__}")
    return safe(found)


def safe(function: Callable[[str], Any]) -> Redact:
    """A wrapper that handles all errors of the function; lines that it logs itself while it runs are withheld instead of redacted."""

    def redacted(text: str) -> str:
        if not text:
            return text
        if _busy.get():
            return "(withheld: logged while REDACT ran)"
        token = _busy.set(True)
        try:
            answer = function(text)
            if is_a(answer, str):
                return clean(plain(answer), MAX_CHARS)
            why = f"it returned {class_name(type(answer))}"
        except BaseException as error:  # noqa: BLE001 - it is the user's code, and nothing may be let through
            why = class_name(type(error))
        finally:
            _busy.reset(token)
        return f"(withheld: the function of REDACT failed: {why})"

    return redacted


def redacted_outcome(outcome: Outcome, redact: Redact) -> Outcome:
    """The outcome with its message and traceback redacted."""
    if not outcome.message and not outcome.traceback:
        return outcome
    traceback = last_bytes(redact(outcome.traceback), MAX_TRACEBACK_BYTES)
    return replace(outcome, message=redact(outcome.message)[:MAX_MESSAGE_CHARS], traceback=traceback)
