"""Opens the authenticator of tokens (JWT) that the settings name."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sickbay.adapters.jwt.authenticator import TokenAuthenticator
from sickbay.adapters.jwt.fetch import Fetcher, checked_url
from sickbay.adapters.jwt.key_set import Unusable, parse_set
from sickbay.adapters.jwt.keys import FILE_REFRESH_S, IssuerKeys, Load, from_file, from_issuer, from_url
from sickbay.adapters.jwt.rules import TokenRules, parse_algorithms, parse_roles
from sickbay.concurrency.tasks import background
from sickbay.domain.errors import MissingSetting, SettingsError
from sickbay.runtime.settings import Settings


@asynccontextmanager
async def open_tokens(settings: Settings) -> AsyncIterator[TokenAuthenticator | None]:
    """Until the context ends; None if no issuer is set. SettingsError if a setting is wrong. It does not wait for the issuer."""
    rules = token_rules(settings)
    if rules is None:
        yield None
        return
    load, refresh_s = _source(settings, rules)
    keys = IssuerKeys(load, rules.algorithms, refresh_s=refresh_s)
    authenticator = TokenAuthenticator(rules, keys)
    try:
        async with background(keys.run):
            yield authenticator
    finally:
        await keys.close()


def token_rules(settings: Settings) -> TokenRules | None:
    """What tokens must say; None if JWT_ISSUER is not set. SettingsError if a setting is wrong."""
    if not settings.jwt_issuer:
        if settings.jwt_audience or settings.jwt_jwks_url or settings.jwt_jwks_file:
            raise MissingSetting("JWT_ISSUER is not set: tokens are of one issuer, whose name is their claim iss")
        return None
    if not settings.jwt_audience:
        raise MissingSetting("JWT_AUDIENCE is not set: without it every token of the issuer would count, whomever it is for")
    if settings.jwt_jwks_url and settings.jwt_jwks_file:
        raise SettingsError("set JWT_JWKS_URL or JWT_JWKS_FILE, not both")
    return TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=parse_algorithms(settings.jwt_algorithms),
        leeway_s=settings.jwt_leeway,
        name_claim=settings.jwt_name_claim,
        roles_claim=settings.jwt_roles_claim,
        roles=parse_roles(settings.jwt_roles),
        tenants_claim=settings.jwt_tenants_claim,
    )


def _source(settings: Settings, rules: TokenRules) -> tuple[Load, float | None]:
    """Where the keys are, and how often to look; None: as their document says."""
    if settings.jwt_jwks_file:
        path = Path(settings.jwt_jwks_file)
        try:
            parse_set(path.read_bytes(), rules.algorithms)
        except OSError as error:
            raise SettingsError(f"JWT_JWKS_FILE cannot be read: {error.strerror}") from None
        except Unusable as error:
            raise SettingsError(f"JWT_JWKS_FILE: {error}") from None
        return from_file(path), FILE_REFRESH_S
    fetcher = _fetcher()
    if settings.jwt_jwks_url:
        return from_url(checked_url(settings.jwt_jwks_url, "JWT_JWKS_URL"), fetcher), None
    try:
        issuer = checked_url(rules.issuer, "JWT_ISSUER")
    except SettingsError as error:
        raise SettingsError(f"{error}; or set JWT_JWKS_URL") from None
    return from_issuer(issuer, fetcher), None


def _fetcher() -> Fetcher:
    try:
        return Fetcher()
    except (OSError, ssl.SSLError):
        raise SettingsError("the authorities of TLS cannot be read; check SSL_CERT_FILE and SSL_CERT_DIR") from None
