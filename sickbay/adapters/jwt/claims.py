"""From the claims of a token whose signature is right to a principal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sickbay.adapters.jwt.rules import TokenRules
from sickbay.domain.access import MAX_PRINCIPAL_CHARS, Kind, Principal, Tenants
from sickbay.domain.errors import ErrorReason, Unauthenticated
from sickbay.domain.job import is_name

ALL_TENANTS: Final = "*"
_LAST: Final = 253_402_300_799
"""The end of the year 9999, in seconds."""


def expiry_of(claims: Mapping[str, Any], rules: TokenRules) -> float:
    """Until when the token counts, with the leeway (seconds since the epoch). Unauthenticated if it does not say."""
    if "exp" not in claims:
        raise Unauthenticated("the token does not say until when it counts (exp)")
    return _time(claims, "exp") + rules.leeway_s


def check_claims(claims: Mapping[str, Any], rules: TokenRules, now: float) -> None:
    """Unauthenticated unless the token is of this issuer, for this audience, and counts now (seconds since the epoch)."""
    if claims.get("iss") != rules.issuer:
        raise Unauthenticated("the token is of another issuer than JWT_ISSUER")
    audience = claims.get("aud")
    if not (audience == rules.audience or (isinstance(audience, list) and _are_texts(audience) and rules.audience in audience)):
        raise Unauthenticated("the token is not for this system: its audience (aud) is not JWT_AUDIENCE")
    check_expiry(expiry_of(claims, rules), now)
    for claim in ("nbf", "iat"):
        if claim in claims and _time(claims, claim) > now + rules.leeway_s:
            raise Unauthenticated(f"the token does not count yet ({claim}); are the clocks of its issuer and of this machine right?")
    if "cnf" in claims:
        raise Unauthenticated("the token is bound to a proof of its holder (cnf), which is not checked here")


def check_expiry(until: float, now: float) -> None:
    """Unauthenticated once the token has expired."""
    if now >= until:
        raise Unauthenticated("the token has expired; get a new one", ErrorReason.CREDENTIAL_EXPIRED)


def principal_of(claims: Mapping[str, Any], rules: TokenRules, kid: str) -> Principal:
    """The principal that a valid token is about; `kid` names its key. Unauthenticated if a claim has another form than it must."""
    name = _at(claims, rules.name_claim)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_PRINCIPAL_CHARS or not name.isprintable() or name != name.strip():
        raise Unauthenticated(f"the token's claim {rules.name_claim} is not a name: 1 to {MAX_PRINCIPAL_CHARS} printable characters")
    roles = frozenset(rules.roles[value] for value in _values(claims, rules.roles_claim) if value in rules.roles)
    jti = claims.get("jti")
    credential = jti if isinstance(jti, str) and jti.isprintable() and len(jti) <= MAX_PRINCIPAL_CHARS else ""
    return Principal(name, roles, _tenants(claims, rules), Kind.TOKEN, credential or kid)


def _tenants(claims: Mapping[str, Any], rules: TokenRules) -> Tenants:
    values = _values(claims, rules.tenants_claim)
    return None if ALL_TENANTS in values else frozenset(filter(is_name, values))


def _values(claims: Mapping[str, Any], path: str) -> Sequence[str]:
    """The texts of a list, or of one text with blanks between them, as in `scope`; none without the claim."""
    found = _at(claims, path)
    if found is None:
        return ()
    if isinstance(found, str):
        return found.split()
    if isinstance(found, list) and _are_texts(found):
        return found
    raise Unauthenticated(f"the token's claim {path} is neither a list of texts nor a text")


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, else the one at this path (`realm_access.roles`); None if there is neither."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def _time(claims: Mapping[str, Any], claim: str) -> float:
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= _LAST:
        raise Unauthenticated(f"the token's claim {claim} is not a time in seconds")
    return float(value)


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(one, str) for one in values)
