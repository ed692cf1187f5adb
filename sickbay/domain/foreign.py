"""Messages that somebody else than our services has published: of which tenants they are run. Pure."""

from __future__ import annotations

from sickbay.domain.access import Tenants
from sickbay.domain.job import NAME_PATTERN, is_name

ALL = "*"
NONE = "none"


def foreign_tenants(text: str) -> Tenants:
    """The tenants in a comma separated list; None for `*`, no tenants for `none`. ValueError names one that is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [ALL]:
        return None
    if not names or names == [NONE]:
        return frozenset()
    for name in names:
        if not is_name(name):
            msg = f"{name!r} is not a tenant; it must match {NAME_PATTERN}, or write * or none alone"
            raise ValueError(msg)
    return frozenset(names)
