"""Who calls, and what that principal may do. Pure.

A principal has roles, each with its rights, and tenants. Which right a call needs is in `sickbay.contract.access`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from sickbay.domain.errors import PermissionDenied
from sickbay.domain.job import DEFAULT_TENANT

MAX_PRINCIPAL_CHARS: Final = 128

Tenants: TypeAlias = "frozenset[str] | None"
"""Some tenants, or None for all of them."""


class Right(StrEnum):
    """What a call needs."""

    SUBMIT = "submit"
    """Submit jobs."""
    CANCEL = "cancel"
    """Cancel jobs, and change those that are to run later."""
    FOLLOW = "follow"
    """Read jobs, and the types of jobs."""
    VIEW = "view"
    """Read everything else, such as breakers, incidents and the quarantine, without payloads and results."""
    PAYLOADS = "payloads"
    """Read payloads and results."""
    OPERATE = "operate"
    """Change breakers and schedules, and act on jobs in quarantine and on incidents."""
    WORK = "work"
    """Connect as a program that runs jobs."""
    AUDIT = "audit"
    """Read the audit log."""


class Role(StrEnum):
    """A named set of rights."""

    SUBMIT = "submit"
    VIEW = "view"
    OPERATE = "operate"
    WORK = "work"
    ADMIN = "admin"


_VIEW: Final = frozenset({Right.FOLLOW, Right.VIEW})

RIGHTS: Final[Mapping[Role, frozenset[Right]]] = MappingProxyType(
    {
        Role.SUBMIT: frozenset({Right.SUBMIT, Right.CANCEL, Right.FOLLOW, Right.PAYLOADS}),
        Role.VIEW: _VIEW,
        Role.OPERATE: _VIEW | {Right.CANCEL, Right.PAYLOADS, Right.OPERATE},
        Role.WORK: frozenset({Right.WORK}),
        Role.ADMIN: frozenset(Right),
    }
)


class Kind(StrEnum):
    """How a principal has proven who it is."""

    NOBODY = ""
    """Not at all: access control is off."""
    KEY = "key"
    TOKEN = "token"  # noqa: S105 - a word, not a password
    CERTIFICATE = "certificate"
    LOCAL = "local"
    """By the token that `sickbay up` has made for this machine's user."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `tenants` is None for all. `credential` names the key or token that was used, for the audit log; it is no secret."""

    name: str
    roles: frozenset[Role]
    tenants: Tenants = None
    kind: Kind = Kind.KEY
    credential: str = ""

    def __post_init__(self) -> None:
        if not self.name and self.kind is not Kind.NOBODY:
            msg = "a principal needs a name"
            raise ValueError(msg)

    @property
    def is_known(self) -> bool:
        """Whether it has proven who it is."""
        return self.kind is not Kind.NOBODY

    def may(self, right: Right) -> bool:
        """Whether one of its roles has the right."""
        return any(right in RIGHTS[role] for role in self.roles)

    def sees(self, tenant: str) -> bool:
        """Whether it may know of what belongs to this tenant."""
        return self.tenants is None or tenant in self.tenants

    def filter(self, asked: str = "") -> Tenants:
        """The tenants whose objects a list may have, if `asked` (empty: no filter) was asked for: none of them for a foreign one."""
        if not asked:
            return self.tenants
        return frozenset({asked}) if self.sees(asked) else frozenset()

    def tenant(self, asked: str = "") -> str:
        """The tenant of something new: the one asked for, else the principal's own. PermissionDenied for a foreign one."""
        if asked or self.tenants is None:
            found = asked or DEFAULT_TENANT
        elif len(self.tenants) == 1:
            (found,) = self.tenants
        else:
            found = DEFAULT_TENANT
        if not self.sees(found):
            why = f"{self.name} may not use the tenant {found!r}" if asked else f"{self.name} has several tenants; name one of them"
            raise PermissionDenied(f"{why}; its tenants are {', '.join(sorted(self.tenants or ()))}")
        return found

    def check_all_tenants(self, what: str) -> None:
        """PermissionDenied unless it has all tenants, which `what` (a sentence's subject) concerns."""
        if self.tenants is not None:
            raise PermissionDenied(f"{what} concerns all tenants, and {self.name} has only {', '.join(sorted(self.tenants)) or 'none'}")

    def actor(self, claimed: str = "") -> str:
        """The name for histories: the principal's own; what a request claims counts only while access control is off."""
        return self.name if self.is_known else claimed


ANYBODY: Final = Principal("", frozenset({Role.ADMIN}), None, Kind.NOBODY)
"""Everybody, while access control is off."""
