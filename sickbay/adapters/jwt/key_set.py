"""The public keys of an issuer (a JWK set, RFC 7517): those that tokens may be signed with, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from sickbay.adapters.jwt.strict import Malformed, parse_object

MAX_SET_BYTES: Final = 262_144
MAX_KEYS: Final = 100
MAX_KID_CHARS: Final = 256
MIN_RSA_BITS: Final = 2_048
_MAX_RSA_CHARS: Final = 2_800
"""Of the modulus in base64url: 16,384 bits. A larger one makes every check slow."""
_OF_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_OF_CURVE: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_PUBLIC: Final = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}


class Unusable(ValueError):
    """A key, or a whole set, cannot be used; `str()` says why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key, and the algorithms that it may be used with."""

    kid: str
    algorithms: frozenset[str]
    key: Any = field(repr=False, compare=False)
    identity: str = field(repr=False)
    """Equal for equal keys."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys; `skipped` says of others in the document why they do not count."""

    keys: tuple[PublicKey, ...]
    skipped: tuple[str, ...] = ()

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key that a token names; a token that names none may have the only key of a set."""
        if kid is None:
            only = self.keys[0] if len(self.keys) == 1 else None
            return only if only is not None and algorithm in only.algorithms else None
        return next((key for key in self.keys if key.kid == kid and algorithm in key.algorithms), None)

    def knows(self, kid: str) -> bool:
        """Whether there is a key of this name."""
        return any(key.kid == kid for key in self.keys)


def parse_set(data: bytes, algorithms: frozenset[str]) -> KeySet:
    """The keys for these algorithms. Unusable if it is no set, or has none of them: then the set of before goes on."""
    if len(data) > MAX_SET_BYTES:
        raise Unusable(f"the key set is larger than {MAX_SET_BYTES:,} bytes")
    try:
        listed = parse_object(data, "key set").get("keys")
    except Malformed:
        raise Unusable("the key set is not a JSON object") from None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise Unusable(f"the key set has no list of at most {MAX_KEYS} keys")
    keys: list[PublicKey] = []
    skipped: list[str] = []
    for place, one in enumerate(listed):
        try:
            key = _key(one, algorithms)
        except Unusable as error:
            skipped.append(f"key {place + 1}: {error}")
            continue
        if any(key.kid == other.kid and key.algorithms & other.algorithms for other in keys):
            skipped.append(f"key {place + 1}: an earlier one has the same name")
        else:
            keys.append(key)
    if not keys:
        raise Unusable(f"the key set has no key for {', '.join(sorted(algorithms))}" + (f" ({skipped[0]})" if skipped else ""))
    return KeySet(tuple(keys), tuple(skipped))


def _key(one: Any, allowed: frozenset[str]) -> PublicKey:
    if not isinstance(one, dict):
        raise Unusable("it is not an object")
    kind, curve = one.get("kty"), one.get("crv", "")
    if not isinstance(kind, str) or kind not in _PUBLIC or not isinstance(curve, str):
        raise Unusable("it is not a public key of RSA, EC or OKP")
    if "d" in one or "k" in one:
        raise Unusable("it is a private key, which everybody can read now; the issuer must replace it")
    if one.get("use", "sig") != "sig" or "verify" not in _texts(one.get("key_ops", ["verify"])):
        raise Unusable("it is not for signatures")
    kid = one.get("kid", "")
    if not isinstance(kid, str) or len(kid) > MAX_KID_CHARS or not kid.isprintable():
        raise Unusable(f"its kid is not a text of at most {MAX_KID_CHARS} printable characters")
    fitting = frozenset(_OF_RSA if kind == "RSA" else _OF_CURVE.get((kind, curve), ())) & allowed
    if "alg" in one:
        fitting &= frozenset(_texts([one["alg"]]))
    if not fitting:
        raise Unusable("it is for none of the algorithms that are allowed here")
    public = {name: one.get(name) for name in _PUBLIC[kind]}
    if not all(isinstance(value, str) and 0 < len(value) <= _MAX_RSA_CHARS for value in public.values()):
        raise Unusable("a part of it is missing")
    return PublicKey(kid, fitting, _loaded(public, min(fitting)), repr(sorted(public.items())))


def _loaded(public: Mapping[str, Any], algorithm: str) -> Any:
    try:
        key = jwt.PyJWK(dict(public), algorithm).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, OverflowError):
        raise Unusable("its numbers are not a key") from None
    if public["kty"] == "RSA" and getattr(key, "key_size", 0) < MIN_RSA_BITS:
        raise Unusable(f"it has less than {MIN_RSA_BITS:,} bits")
    return key


def _texts(values: Any) -> Iterable[str]:
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else ()
