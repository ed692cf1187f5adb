"""What tokens must say, by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from sickbay.domain.access import Role
from sickbay.domain.errors import SettingsError

ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Those that only the issuer can sign with. With the HS ones everybody who can check a token could make one."""
DEFAULT_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")


@dataclass(frozen=True, slots=True)
class TokenRules:
    """`leeway_s` is how far the clocks of issuer and services may differ; `roles` maps values of the claim to roles."""

    issuer: str
    audience: str
    algorithms: frozenset[str] = frozenset(DEFAULT_ALGORITHMS)
    leeway_s: float = 30.0
    name_claim: str = "sub"
    roles_claim: str = "roles"
    roles: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({role.value: role for role in Role}))
    tenants_claim: str = "tenants"


def parse_algorithms(text: str) -> frozenset[str]:
    """Those in a comma separated list; SettingsError for one that is unknown, or with which others than the issuer could sign."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name.lower() == "none" or name.upper().startswith("HS"):
            raise SettingsError(f"JWT_ALGORITHMS may not have {name}: anybody could sign; use some of {', '.join(ASYMMETRIC)}")
        if name not in ASYMMETRIC:
            raise SettingsError(f"JWT_ALGORITHMS has {name!r}, which is none of {', '.join(ASYMMETRIC)}")
    if not names:
        raise SettingsError(f"JWT_ALGORITHMS names none; use some of {', '.join(ASYMMETRIC)}")
    return frozenset(names)


def parse_roles(text: str) -> Mapping[str, Role]:
    """`sickbay-admins=admin, shop=submit` as values of the claim and their roles; empty: the values are the names of roles."""
    found: dict[str, Role] = {}
    for pair in [pair.strip() for pair in text.split(",") if pair.strip()]:
        value, _, name = (part.strip() for part in pair.rpartition("="))
        if not value or name not in set(Role):
            raise SettingsError(f"JWT_ROLES has {pair!r}; write VALUE=ROLE, with one of the roles {', '.join(Role)}")
        if value in found:
            raise SettingsError(f"JWT_ROLES has {value!r} twice")
        found[value] = Role(name)
    return MappingProxyType(found or {role.value: role for role in Role})
