"""The one decision: which principal calls, and whether it may. gRPC and REST ask the same object."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final, Protocol

from sickbay.contract.access import RULES, Rule
from sickbay.domain.access import RIGHTS, Principal, Right
from sickbay.domain.errors import PermissionDenied, SickbayError, Unauthenticated
from sickbay.ports.access import Authenticator, Credentials

_MISSING: Final = "this call needs a credential: send `authorization: Bearer ...` with an API key or a token"
_UNKNOWN: Final = "the credential is not known here; check that the key or token is of this system, and complete"


class Exempt(StrEnum):
    """What may be open to everybody although access control is on."""

    METRICS = "metrics"
    DOCS = "docs"
    REFLECTION = "reflection"


def exempt(text: str) -> frozenset[Exempt]:
    """Those in a comma separated list; ValueError names one that is none."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in set(Exempt):
            msg = f"{name!r} is none of {', '.join(Exempt)}"
            raise ValueError(msg)
    return frozenset(map(Exempt, names))


class OnRefused(Protocol):
    """Told of each refused call, for metrics and the audit log; it must neither wait nor raise."""

    def __call__(self, method: str, credentials: Credentials, principal: Principal | None, error: SickbayError) -> None:
        """`method` is the RPC's full name or the path; the principal is None if it is not known."""


class Access:
    """One per process."""

    def __init__(self, authenticators: Sequence[Authenticator], exempt: Collection[Exempt] = ()) -> None:
        """The first authenticator that knows the credentials decides."""
        self._authenticators = tuple(authenticators)
        self.exempt = frozenset(exempt)
        self.on_refused: OnRefused | None = None

    async def identify(self, credentials: Credentials) -> Principal:
        """The principal. Unauthenticated, or Unavailable if that cannot be known now."""
        for one in self._authenticators:
            if (found := await one.authenticate(credentials)) is not None:
                return found
        raise Unauthenticated(_UNKNOWN if credentials.bearer or credentials.certificate else _MISSING)

    def authorize(self, principal: Principal, method: str) -> None:
        """PermissionDenied unless the principal may call the RPC of this full name."""
        rule = RULES.get(method)
        if rule is None:
            raise PermissionDenied(f"nobody may call {method}: it has no rule")
        self.check(principal, rule, method.rpartition("/")[2])

    def check(self, principal: Principal, rule: Rule, what: str) -> None:
        """PermissionDenied unless the principal has the right of the rule, and all tenants if it needs them; `what` names the call."""
        if rule.right is not None and not principal.may(rule.right):
            raise PermissionDenied(f"{principal.name} may not do that: it needs {_roles_with(rule.right)}, and has {_named(principal)}")
        if rule.all_tenants:
            principal.check_all_tenants(what)

    def refused(self, method: str, credentials: Credentials, principal: Principal | None, error: SickbayError) -> None:
        """Report a refused call."""
        if self.on_refused is not None:
            self.on_refused(method, credentials, principal, error)


def _roles_with(right: Right) -> str:
    return "the role " + " or ".join(role.value for role, rights in RIGHTS.items() if right in rights)


def _named(principal: Principal) -> str:
    return ", ".join(sorted(role.value for role in principal.roles)) or "no role"
