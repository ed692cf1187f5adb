"""Finds the principal of a bearer token that the issuer has signed. A token that was checked is remembered until it expires."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from time import time
from typing import Any, Final

import jwt

from sickbay.adapters.jwt.claims import check_claims, check_expiry, expiry_of, principal_of
from sickbay.adapters.jwt.key_set import MAX_KID_CHARS, KeySet, PublicKey
from sickbay.adapters.jwt.keys import IssuerKeys
from sickbay.adapters.jwt.rules import TokenRules
from sickbay.adapters.jwt.strict import Malformed, parts_of
from sickbay.domain.access import Principal
from sickbay.domain.errors import Unauthenticated
from sickbay.ports.access import Credentials

MAX_REMEMBERED: Final = 10_000
_OF_KEYS: Final = "sk_"
"""The beginning of API keys."""
_DOTS: Final = 2
_TYPES: Final = {"jwt", "at+jwt", "application/at+jwt"}
_NOT_HERE: Final = ("crit", "b64", "enc", "zip", "cty")
"""What changes the meaning of a token in ways that are not known here. Keys and addresses of keys in a header are never looked at."""


class TokenAuthenticator:
    """Implements `Authenticator` for tokens of one issuer."""

    def __init__(self, rules: TokenRules, keys: IssuerKeys, now: Callable[[], float] = time) -> None:
        """`now` is in seconds since the epoch."""
        self._rules, self._keys, self._now = rules, keys, now
        self._remembered: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._verify = jwt.PyJWS(algorithms=sorted(rules.algorithms))
        keys.on_change = self._remembered.clear

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """See the port."""
        token = credentials.bearer
        if token.count(".") != _DOTS or token.startswith(_OF_KEYS):
            return None
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is not None:
            until, principal = known
            check_expiry(until, self._now())
            self._remembered.move_to_end(digest)
            return principal
        return await self._check(token, digest)

    async def _check(self, token: str, digest: bytes) -> Principal:
        try:
            header, claims = parts_of(token)
        except Malformed as error:
            raise Unauthenticated(f"the token is malformed: {error}") from None
        algorithm, kid = self._named(header)
        keys, key = await self._key(kid, algorithm)
        self._check_signature(token, key, algorithm)
        check_claims(claims, self._rules, self._now())
        principal = principal_of(claims, self._rules, key.kid)
        if keys is await self._keys.current():  # else there is another set since, and it would be remembered for too long
            self._remembered[digest] = (expiry_of(claims, self._rules), principal)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return principal

    def _named(self, header: dict[str, Any]) -> tuple[str, str | None]:
        """The algorithm and the key that a header names."""
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in self._rules.algorithms:
            raise Unauthenticated(f"the token is not signed with one of {', '.join(sorted(self._rules.algorithms))}")
        if "kid" in header and (not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS or not kid.isprintable()):
            raise Unauthenticated("the token does not name its key (kid) by a short text")
        if any(name in header for name in _NOT_HERE):
            raise Unauthenticated(f"the token's header has one of {', '.join(_NOT_HERE)}, which are not known here")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise Unauthenticated("the token is of another type (typ) than an access token")
        return algorithm, kid

    async def _key(self, kid: str | None, algorithm: str) -> tuple[KeySet, PublicKey]:
        keys = await self._keys.current()
        if kid is not None and not keys.knows(kid):
            keys = await self._keys.after_look()
        key = keys.find(kid, algorithm)
        if key is not None:
            return keys, key
        if kid is None:
            raise Unauthenticated("the token does not name its key (kid), and the issuer has several, or another kind")
        if keys.knows(kid):
            raise Unauthenticated("the token is signed with another algorithm than its key is for")
        raise Unauthenticated("the token's key (kid) is none of the issuer's")

    def _check_signature(self, token: str, key: PublicKey, algorithm: str) -> None:
        try:
            self._verify.decode_complete(token, key.key, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Unauthenticated("the token's signature is not the issuer's") from None
