"""The one decision: which principal calls, and whether it may. gRPC and REST ask the same object."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final, Protocol

from sickbay.contract.access import RULES, Rule
from sickbay.domain.access import RIGHTS, Principal, Right
from sickbay.domain.errors import PermissionDenied, SickbayError, Unauthenticated, Unavailable
from sickbay.ports.access import Authenticator, Credentials
from sickbay.server.access.attempts import FailedAttempts

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 2.0
"""How long all authenticators together may take."""
_MISSING: Final = "this call needs a credential: send `authorization: Bearer ...` with an API key or a token"
_LATER: Final = "who calls cannot be checked now; try again in a moment"
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
    """One per process, with one `at_port` for each service."""

    def __init__(self, authenticators: Sequence[Authenticator], exempt: Collection[Exempt] = ()) -> None:
        """The first authenticator that knows the credentials decides."""
        self._authenticators = tuple(authenticators)
        self.exempt = frozenset(exempt)
        self._listeners: list[OnRefused] = []
        self._attempts = FailedAttempts()
        self._whole: Access | None = None

    def at_port(self, *listeners: OnRefused) -> Access:
        """The same decisions, with listeners that hear only of the calls of one service, before the others."""
        one = Access(self._authenticators, self.exempt)
        one._listeners, one._attempts, one._whole = [*listeners], self._attempts, self
        return one

    def listen(self, listener: OnRefused) -> None:
        """Have `listener` called for each refused call, after those before it."""
        self._listeners.append(listener)

    async def identify(self, credentials: Credentials) -> Principal:
        """The principal. Unauthenticated, or Unavailable if that cannot be known now."""
        if not credentials.bearer and not credentials.certificate:
            raise Unauthenticated(_MISSING)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for one in self._authenticators:
                    if (found := await one.authenticate(credentials)) is not None:
                        return found
        except SickbayError:
            raise
        except TimeoutError:
            log.warning("who calls is not known: that was not found out within %.0f s", TIMEOUT_S)
            raise Unavailable(_LATER) from None
        except Exception as error:  # noqa: BLE001 - logged without its text
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("internal error while finding out who calls: %s\n%s", type(error).__name__, frames)  # noqa: TRY400 - its text may have the credential
            raise Unavailable(_LATER) from None
        raise Unauthenticated(_UNKNOWN)

    async def admit(self, method: str, credentials: Credentials) -> Principal:
        """The principal of a call that begins, as `identify`. A failure is reported, and counts against its address."""
        try:
            return await self.identify(credentials)
        except SickbayError as error:
            raise self.failed(method, credentials, error) from None

    def failed(self, method: str, credentials: Credentials, error: SickbayError) -> SickbayError:
        """Report a call whose principal is not known; the error for its caller."""
        told = self._attempts.fail(credentials.peer, error) if isinstance(error, Unauthenticated) else error
        self.refused(method, credentials, None, told)
        return told

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
        """Report a refused call to all listeners."""
        for listener in self._listeners:
            listener(method, credentials, principal, error)
        if self._whole is not None:
            self._whole.refused(method, credentials, principal, error)


def _roles_with(right: Right) -> str:
    return "the role " + " or ".join(role.value for role, rights in RIGHTS.items() if right in rights)


def _named(principal: Principal) -> str:
    return ", ".join(sorted(role.value for role in principal.roles)) or "no role"
