"""The meaning of exceptions of the standard library and of well-known libraries; the whole table is in `docs/handlers.md`.

Libraries are recognised by the modules and names of their exception classes, so none of them needs to be installed or imported, and an
attribute that happens to be called `code` is not mistaken for one.
"""

from __future__ import annotations

import email.utils
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from sickbay.domain.raised import attribute, classes, full_name, plain, wait_ms
from sickbay.handlers.known import databases, services, standard, web
from sickbay.handlers.known.rule import Known, Rule, at

RULES: Final[tuple[Rule, ...]] = (*standard.RULES, *web.RULES, *databases.RULES, *services.RULES)


def _index() -> Mapping[str, tuple[Rule, ...]]:
    found = defaultdict[str, list[Rule]](list)
    for rule in RULES:
        for name in rule.names:
            found[name].append(rule)
    return {name: tuple(rules) for name, rules in found.items()}


_BY_NAME: Final = _index()


def known_of(error: BaseException) -> Known | None:
    """The meaning of the exception, by the nearest of its classes that is known; None if none is."""
    for cls in classes(error):
        module, name = full_name(cls)
        for rule in _BY_NAME.get(name, ()):
            if module == rule.library or module.startswith(f"{rule.library}."):
                known = rule.apply(error)
                if known is not None:
                    return known
    return web.carried_response(error)


def asked_wait_ms(error: BaseException) -> int | None:
    """The wait that the exception or its response asks for: `retry_after` in seconds, or a header (RFC 9110, section 10.2.3)."""
    wait = wait_ms(attribute(error, "retry_after"))
    if wait is not None:
        return wait
    for path in ("response.headers", "headers"):
        headers = at(error, path)
        if _header(headers, "Retry-After"):
            return wait_of_headers(headers)
    return None


def wait_of_headers(headers: object) -> int | None:
    """The wait in ms that the header `Retry-After` asks for, at most a day; None without one. `headers` has a method `get`."""
    after = _header(headers, "Retry-After")
    return wait_ms(after) if not after or _is_number(after) else _until(after, _header(headers, "Date"))


def _header(headers: object, name: str) -> str:
    get: Any = attribute(headers, "get")
    try:
        return plain(get(name)) if callable(get) else ""
    except BaseException:  # noqa: BLE001 - foreign code
        return ""


def _is_number(text: str) -> bool:
    return text.strip()[:1].isdigit()


def _until(date: str, now: str) -> int | None:
    """The time from one date to the other; both are by the server's clock."""
    try:
        return wait_ms((email.utils.parsedate_to_datetime(date) - email.utils.parsedate_to_datetime(now)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
