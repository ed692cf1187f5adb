"""Tokens of an issuer: what counts, and every way that we know of to forge one."""

import asyncio
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.jwt import authenticator as module
from sickbay.adapters.jwt.authenticator import TokenAuthenticator
from sickbay.adapters.jwt.fetch import Document, NotFetched
from sickbay.adapters.jwt.key_set import Unusable, parse_set
from sickbay.adapters.jwt.keys import IssuerKeys
from sickbay.adapters.jwt.rules import ASYMMETRIC, TokenRules, parse_algorithms, parse_roles
from sickbay.domain.access import Kind, Principal, Role
from sickbay.domain.errors import ErrorReason, SettingsError, Unauthenticated, Unavailable
from sickbay.ports.access import Credentials
from tests.support.token_issuer import AUDIENCE, ISSUER, SigningKey, encoded

NOW = 1_700_000_000
EC, RSA, ED = SigningKey("ec-1"), SigningKey("rsa-1", "RS256"), SigningKey("ed-1", "EdDSA")
OTHER = SigningKey("ec-1")
ALL = frozenset({"RS256", "ES256", "EdDSA"})
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": NOW + 600, "roles": ["submit"], "tenants": ["acme"]}
SHOP = Principal("shop", frozenset({Role.SUBMIT}), frozenset({"acme"}), Kind.TOKEN, "ec-1")


def set_of(*keys):
    return json.dumps({"keys": [key if isinstance(key, dict) else key.public for key in keys]}).encode()


class Bench:
    """An authenticator with clocks that stand still, whose issuer publishes `document` (an exception: is away)."""

    def __init__(self, *keys, rules=None):
        self.now, self.steady, self.looks = NOW, 1_000.0, 0
        self.document = set_of(*(keys or (EC, RSA, ED)))
        self.rules = rules or TokenRules(ISSUER, AUDIENCE)
        self.keys = IssuerKeys(self.load, self.rules.algorithms, now=lambda: self.steady)
        self.door = TokenAuthenticator(self.rules, self.keys, lambda: self.now)

    async def load(self):
        self.looks += 1
        if isinstance(self.document, Exception):
            raise self.document
        return Document(self.document)

    async def ask(self, token):
        return await self.door.authenticate(Credentials(token))

    async def refused(self, token, reason=ErrorReason.UNAUTHENTICATED):
        """The message of its refusal, which never has any part of the token."""
        with pytest.raises(Unauthenticated) as caught:
            await self.ask(token)
        assert caught.value.reason is reason
        assert not any(part in str(caught.value) for part in token.split(".") if len(part) > 8)
        return str(caught.value)


def claims(**changes):
    """Those of a good token with some changed, or left out (None)."""
    return {name: value for name, value in (CLAIMS | changes).items() if value is not None}


@pytest.mark.parametrize("key", [EC, RSA, ED], ids=["EC", "RSA", "Ed25519"])
async def test_a_token_of_the_issuer_counts(key):
    found = await Bench().ask(key.token(CLAIMS))
    assert found == Principal("shop", frozenset({Role.SUBMIT}), frozenset({"acme"}), Kind.TOKEN, key.kid)


@pytest.mark.parametrize("other", ["sk_a.b.c", "sk_1", "a.b", "a.b.c.d", "", "a.b.c.d.e"])
async def test_what_is_no_token_is_left_to_others(other):
    bench = Bench()
    assert await bench.ask(other) is None
    assert bench.looks == 0


_PEM = RSA.private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed_by_secret(secret, algorithm="HS256", kid="rsa-1"):
    text = f"{encoded({'alg': algorithm, 'typ': 'JWT', 'kid': kid})}.{encoded(CLAIMS)}"
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def unsigned(spelling, signature=""):
    return f"{encoded({'alg': spelling, 'typ': 'JWT', 'kid': 'ec-1'})}.{encoded(CLAIMS)}.{signature}"


_GOOD = EC.token(CLAIMS)
_HEAD, _BODY, _SIGNED = _GOOD.split(".")

FORGED = {
    **{f"alg {name!r}": unsigned(name) for name in ("none", "None", "NONE", "nOnE", "none ", "", None, 0, [], {}, "\u0000none")},
    **{f"alg {name!r} with a signature": unsigned(name, _SIGNED) for name in ("none", "NONE", "", None, ["ES256"], "es256", "ES256 ")},
    "no alg": f"{encoded({'kid': 'ec-1'})}.{_BODY}.{_SIGNED}",
    "HS256 with the public key in PEM": signed_by_secret(_PEM),
    "HS256 with the public key's JWK": signed_by_secret(json.dumps(RSA.public).encode()),
    "HS256 with the modulus": signed_by_secret(RSA.public["n"].encode()),
    "HS256 with nothing": signed_by_secret(b""),
    "RS256 that is HS256": signed_by_secret(_PEM, "RS256"),
    "another key of the same name": OTHER.token(CLAIMS),
    "another kind of key of the same name": SigningKey("ec-1", "RS256").token(CLAIMS),
    "RS384, which is not allowed": RSA.token(CLAIMS, alg="RS384"),
    "PS256 by the key of RS256": RSA.token(CLAIMS, alg="PS256"),
    "ES256 by the key of EdDSA": EC.token(CLAIMS, kid="ed-1"),
    "no kid, though there are several keys": EC.token(CLAIMS, kid=None),
    **{
        f"kid {kid!r}": EC.token(CLAIMS, kid=kid)
        for kid in ("", 0, ["ec-1"], {"a": 1}, True, "ec-1 ", "EC-1", "../ec-1", "' or 1=1 --", "ec-1\u0000", "\u202eec-1", "x" * 300)
    },
    "jku": SigningKey("ec-9").token(CLAIMS, jku="http://127.0.0.1:1/jwks"),
    "jwk": OTHER.token(CLAIMS, jwk=OTHER.public),
    "jwk under the name of a known key": OTHER.token(CLAIMS, jwk=OTHER.public, kid="ec-1"),
    "x5u": SigningKey("ec-9").token(CLAIMS, x5u="http://127.0.0.1:1/cert"),
    "x5c": OTHER.token(CLAIMS, x5c=["MIIB"]),
    **{f"crit {value!r}": EC.token(CLAIMS, crit=value) for value in ([], ["exp"], ["b64"], "exp", {})},
    "b64": EC.token(CLAIMS, b64=False, crit=["b64"]),
    "b64 alone": EC.token(CLAIMS, b64=False),
    "encrypted": EC.token(CLAIMS, enc="A128GCM"),
    "compressed": EC.token(CLAIMS, zip="DEF"),
    "nested": EC.token(_GOOD.encode(), cty="JWT"),
    "nested without a word": EC.token(json.dumps(_GOOD).encode()),
    "another type": EC.token(CLAIMS, typ="logout+jwt"),
    "a type that is no text": EC.token(CLAIMS, typ=["JWT"]),
    "another issuer": EC.token(claims(iss="https://evil.example.com/")),
    "the issuer without its slash": EC.token(claims(iss=ISSUER.rstrip("/"))),
    "an issuer in capitals": EC.token(claims(iss=ISSUER.upper())),
    "several issuers": EC.token(claims(iss=[ISSUER])),
    "no issuer": EC.token(claims(iss=None)),
    "no audience": EC.token(claims(aud=None)),
    **{
        f"audience {value!r}": EC.token(claims(aud=value))
        for value in ("other", "", [], ["other"], ["sickbay", 1], {"sickbay": 1}, "sickbay ", 7)
    },
    "no exp": EC.token(claims(exp=None)),
    **{f"exp {value!r}": EC.token(claims(exp=value)) for value in (str(NOW + 600), True, [], "", -1, 1e300, 10**30)},
    "exp is null": EC.sign({"alg": "ES256", "kid": "ec-1"}, CLAIMS | {"exp": None}),
    "exp without end": EC.sign({"alg": "ES256", "kid": "ec-1"}, json.dumps(CLAIMS).replace(str(NOW + 600), "Infinity").encode()),
    "exp that is no number": EC.sign({"alg": "ES256", "kid": "ec-1"}, json.dumps(CLAIMS).replace(str(NOW + 600), "NaN").encode()),
    "exp beyond all numbers": EC.sign({"alg": "ES256", "kid": "ec-1"}, json.dumps(CLAIMS).replace(str(NOW + 600), "9" * 5_000).encode()),
    "exp as 1e999": EC.sign({"alg": "ES256", "kid": "ec-1"}, json.dumps(CLAIMS).replace(str(NOW + 600), "1e999").encode()),
    "not yet valid": EC.token(claims(nbf=NOW + 31)),
    "issued in the future": EC.token(claims(iat=NOW + 31)),
    **{f"{name} as text": EC.token(claims(**{name: "0"})) for name in ("nbf", "iat")},
    "claims twice": EC.sign({"alg": "ES256", "kid": "ec-1"}, json.dumps(CLAIMS).replace("{", '{"sub": "admin", ', 1).encode()),
    "header twice": EC.sign(b'{"alg":"none","alg":"ES256","kid":"ec-1"}', CLAIMS),
    "twice deep inside": EC.sign({"alg": "ES256", "kid": "ec-1"}, json.dumps(CLAIMS)[:-1].encode() + b',"a":{"b":1,"b":2}}'),
    "bound to its holder": EC.token(claims(cnf={"jkt": "x"})),
    "a list of claims": EC.sign({"alg": "ES256", "kid": "ec-1"}, [CLAIMS]),
    "claims that are not UTF-8": EC.sign({"alg": "ES256", "kid": "ec-1"}, b'{"sub": "\xff"}'),
    "claims with a byte order mark": EC.sign({"alg": "ES256", "kid": "ec-1"}, b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode()),
    "claims that are nested too deeply": EC.sign({"alg": "ES256", "kid": "ec-1"}, b'{"a":' * 2_000 + b"1" + b"}" * 2_000),
    "a header that is a list": EC.sign([], CLAIMS),
    "empty parts": "..",
    "no signature": f"{_HEAD}.{_BODY}.",
    "no header": f".{_BODY}.{_SIGNED}",
    "no claims": f"{_HEAD}..{_SIGNED}",
    "cut off": _GOOD[:-2],
    "padded": f"{_GOOD}==",
    "padded inside": f"{_HEAD}=.{_BODY}.{_SIGNED}",
    "with blanks": f"{_HEAD}. {_BODY}.{_SIGNED}",
    "with a line break": f"{_GOOD}\n",
    "with full-width dots": _GOOD.replace("e", "\uff45", 1),
    "plain base64": f"{_HEAD}.{_BODY}+/.{_SIGNED}",
    "a surrogate": f"{_HEAD}.{_BODY}.\udc80",
    "oversized": EC.token(claims(more="x" * 20_000)),
    "an oversized header": EC.token(CLAIMS, more="x" * 5_000),
    "the other's payload": f"{_HEAD}.{encoded(claims(roles=['admin']))}.{_SIGNED}",
    **{
        f"name {value!r}": EC.token(claims(sub=value))
        for value in ("", " ", " shop", "a\nb", "a\u0000", "\u202eshop", "x" * 129, 7, ["shop"], {"a": 1})
    },
    "no name": EC.token(claims(sub=None)),
    **{
        f"{name} {value!r}": EC.token(claims(**{name: value}))
        for name in ("roles", "tenants")
        for value in (7, True, {"admin": True}, [7], ["acme", None], [["admin"]])
    },
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_token_is_refused(token):
    """Nor is it remembered: it is refused again."""
    bench = Bench()
    assert token.count(".") == 2
    for _ in range(2):
        await bench.refused(token)
    assert await bench.ask(_GOOD) == SHOP


async def test_an_expired_token_says_so():
    """From its time on, with the leeway: checked anew, and remembered."""
    bench, token = Bench(), EC.token(CLAIMS)
    bench.now = NOW + 629
    assert await bench.ask(token) == SHOP
    bench.now = NOW + 630
    assert "expired" in await bench.refused(token, ErrorReason.CREDENTIAL_EXPIRED)
    assert "expired" in await bench.refused(EC.token(claims(exp=NOW)), ErrorReason.CREDENTIAL_EXPIRED)


async def test_leeway_holds_for_all_times():
    assert await Bench().ask(EC.token(claims(nbf=NOW + 30, iat=NOW + 30.0, exp=NOW - 29.5))) == SHOP


@pytest.mark.parametrize(("value", "expected"), [(["*"], None), ("*", None), (["acme", "*"], None), (None, frozenset()), ([], frozenset())])
async def test_tenants_of_a_token(value, expected):
    """A token that says nothing of tenants has none; `*` has all of them."""
    assert (await Bench().ask(EC.token(claims(tenants=value)))).tenants == expected
    assert (await Bench().ask(EC.token(claims(tenants="acme Acme *x other")))).tenants == {"acme", "other"}


async def test_roles_by_a_path_and_a_map():
    """A claim whose name has dots in it counts as it is, before the path."""
    rules = TokenRules(
        ISSUER, AUDIENCE, name_claim="preferred_username", roles_claim="realm_access.roles", roles=parse_roles("ops=operate, a=b=admin")
    )
    token = EC.token(claims(preferred_username="Ann Ops", realm_access={"roles": ["ops", "admin", "offline_access"]}))
    found = await Bench(rules=rules).ask(token)
    assert (found.name, found.roles) == ("Ann Ops", {Role.OPERATE})
    literal = EC.token(claims(preferred_username="x", **{"realm_access.roles": "a=b"}))
    assert (await Bench(rules=rules).ask(literal)).roles == {Role.ADMIN}
    assert (await Bench(rules=rules).ask(EC.token(claims(preferred_username="x", realm_access="ops")))).roles == frozenset()


async def test_an_audience_among_others_and_the_jti():
    found = await Bench().ask(EC.token(claims(aud=["other", AUDIENCE], jti="id-7")))
    assert found.credential == "id-7"
    assert (await Bench().ask(EC.token(claims(jti="x\n")))).credential == "ec-1"


async def test_a_token_without_kid_may_have_the_only_key():
    assert await Bench(EC).ask(EC.token(CLAIMS, kid=None)) == SHOP
    await Bench(EC).refused(RSA.token(CLAIMS, kid=None))
    await Bench(EC).refused(OTHER.token(CLAIMS, kid=None))


async def test_a_checked_token_is_remembered(monkeypatch):
    """It costs no signature again, until the keys change; not more are remembered than may be."""
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    bench, token = Bench(EC), EC.token(CLAIMS)
    await bench.ask(token)
    checks = []
    monkeypatch.setattr(bench.door, "_check_signature", lambda *_: checks.append(1))
    await bench.ask(token)
    assert checks == []
    for number in range(3):
        await bench.ask(EC.token(claims(jti=str(number))))
    assert len(bench.door._remembered) == 2
    bench.document = set_of(EC, RSA)
    await bench.keys.refresh()
    await bench.ask(token)
    assert len(checks) == 4


async def test_a_key_that_was_rotated_away_counts_no_longer():
    bench, new = Bench(EC), SigningKey("ec-2")
    assert await bench.ask(_GOOD) == SHOP
    bench.document = set_of(new)
    await bench.keys.refresh()
    assert "none of the issuer's" in await bench.refused(_GOOD)
    assert (await bench.ask(new.token(CLAIMS))).credential == "ec-2"


async def test_an_unknown_key_is_looked_for_once_at_a_time():
    """All who ask share one look, and for 10 s there is no other, whoever asks."""
    bench, new = Bench(EC), SigningKey("ec-2")
    await bench.ask(_GOOD)
    assert bench.looks == 1
    bench.steady += 10
    bench.document = set_of(EC, new)
    found = await asyncio.gather(*(bench.ask(new.token(claims(jti=str(number)))) for number in range(20)))
    assert {one.name for one in found} == {"shop"}
    assert bench.looks == 2
    for number in range(50):
        await bench.refused(EC.token(CLAIMS, kid=f"random-{number}"))
    assert bench.looks == 2
    bench.steady += 10
    for number in range(50):
        await bench.refused(EC.token(CLAIMS, kid=f"random-{number}"))
    assert bench.looks == 3


async def test_the_old_keys_go_on_while_the_issuer_is_away(caplog):
    """It is said once; whether an unknown key is the issuer's nobody knows meanwhile."""
    bench, new = Bench(EC), SigningKey("ec-2")
    await bench.ask(_GOOD)
    bench.document = NotFetched("it cannot be reached")
    for _ in range(3):
        bench.steady += 10
        await bench.keys.refresh()
        with pytest.raises(Unavailable):
            await bench.ask(new.token(CLAIMS))
    assert await bench.ask(EC.token(claims(jti="another"))) != SHOP
    assert [record.message for record in caplog.records].count(
        "the keys of the issuer (JWT) are not to be had: it cannot be reached; those of before go on"
    ) == 1
    bench.document = set_of(new)
    bench.steady += 10
    assert (await bench.ask(new.token(CLAIMS))).credential == "ec-2"
    assert bench.keys.trouble == ""


async def test_at_the_start_without_the_issuer_tokens_wait():
    bench = Bench(EC)
    bench.document = NotFetched("it cannot be reached")
    for _ in range(5):
        with pytest.raises(Unavailable, match="it cannot be reached"):
            await bench.ask(_GOOD)
    assert bench.looks == 1
    bench.document = set_of(EC)
    bench.steady += 10
    assert await bench.ask(_GOOD) == SHOP


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [7, null]}',
        b'{"keys": [], "keys": []}',
        b" " * 300000,
        b"\xff",
        b'{"keys": [' + b",".join([b"{}"] * 101) + b"]}",
    ],
    ids=lambda document: repr(document[:20]),
)
async def test_a_set_that_is_none_replaces_nothing(document):
    bench = Bench(EC)
    await bench.ask(_GOOD)
    bench.document = document
    await bench.keys.refresh()
    assert bench.keys.trouble
    assert await bench.ask(_GOOD) == SHOP


_SMALL = jwt.get_algorithm_by_name("RS256").to_jwk(
    rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(),  # noqa: S505 - that is the point
    as_dict=True,
)
_SECP256K1 = jwt.get_algorithm_by_name("ES256K").to_jwk(ec.generate_private_key(ec.SECP256K1()).public_key(), as_dict=True)
_PRIVATE = jwt.get_algorithm_by_name("ES256").to_jwk(EC.private, as_dict=True)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "h", "alg": "HS256"}, "not a public key"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "h"}, "not a public key"),
        ({**_PRIVATE, "kid": "p"}, "private"),
        ({**EC.public, "use": "enc"}, "not for signatures"),
        ({**EC.public, "key_ops": ["sign"]}, "not for signatures"),
        ({**EC.public, "alg": "HS256"}, "none of the algorithms"),
        ({**EC.public, "alg": "RS256"}, "none of the algorithms"),
        ({**EC.public, "crv": "P-384"}, "none of the algorithms"),
        ({**EC.public, "crv": ["P-256"]}, "not a public key"),
        ({**EC.public, "x": EC.public["y"]}, "not a key"),
        ({**EC.public, "x": "!"}, "not a key"),
        ({**EC.public, "x": 7}, "missing"),
        ({**EC.public, "kid": 7}, "kid"),
        ({**EC.public, "kid": "x" * 300}, "kid"),
        ({**RSA.public, "n": "AQAB" * 2_000}, "missing"),
        ({**_SMALL, "kid": "s"} | {"key_ops": ["verify"]}, "2,048 bits"),
        ({**_SECP256K1, "kid": "k"}, "none of the algorithms"),
        ({**EC.public, "kty": ["EC"]}, "not a public key"),
    ],
)
def test_keys_that_must_not_count_are_left_out(key, why):
    """The others of the set count; a set of nothing else is none."""
    found = parse_set(set_of(RSA, key), ALL)
    assert [one.kid for one in found.keys] == ["rsa-1"]
    assert why in found.skipped[0]
    with pytest.raises(Unusable):
        parse_set(set_of(key), ALL)


def test_of_two_keys_with_one_name_the_first_counts():
    """Unless they are of different kinds."""
    assert parse_set(set_of(EC, OTHER), ALL).skipped == ("key 2: an earlier one has the same name",)
    assert len(parse_set(set_of(EC, SigningKey("ec-1", "EdDSA")), ALL).keys) == 2


@pytest.mark.parametrize("text", ["none", "None", "HS256", "RS256,HS512", "hs256", "RS256,none", "ES256K", "", ",", "RSA"])
def test_algorithms_with_which_others_could_sign_are_refused_at_the_start(text):
    with pytest.raises(SettingsError, match="JWT_ALGORITHMS"):
        parse_algorithms(text)


def test_asymmetric_algorithms_may_be_chosen():
    assert parse_algorithms(" RS384, PS256 ") == {"RS384", "PS256"}
    assert parse_algorithms(",".join(ASYMMETRIC)) == set(ASYMMETRIC)


@pytest.mark.parametrize("text", ["admin", "x=root", "=admin", "a=admin,a=view"])
def test_a_map_of_roles_that_cannot_be_meant(text):
    with pytest.raises(SettingsError, match="JWT_ROLES"):
        parse_roles(text)


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\u0000\u00e9"
_KNOWN_KEYS = parse_set(set_of(EC, RSA, ED), ALL)


@given(st.sampled_from([_GOOD, RSA.token(CLAIMS), ED.token(CLAIMS)]), st.data())
def test_no_change_of_a_token_is_accepted(token, data):
    """Law: any replacement, insertion, deletion, swap of parts or exchange between tokens makes another token, and it does not count."""
    kind = data.draw(st.sampled_from(["replace", "insert", "delete", "exchange"]))
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from(_ALPHABET))
    if kind == "replace":
        changed = token[:place] + character + token[place + 1 :]
    elif kind == "insert":
        changed = token[:place] + character + token[place:]
    elif kind == "delete":
        changed = token[:place] + token[place + data.draw(st.integers(1, 8)) :]
    else:
        parts, others = token.split("."), OTHER.token(claims(roles=["admin"])).split(".")
        which = data.draw(st.sets(st.integers(0, 2), min_size=1))
        changed = ".".join(others[number] if number in which else part for number, part in enumerate(parts))
    if changed == token:
        return

    async def ask():
        bench = Bench()
        try:
            return await bench.ask(changed)
        except Unauthenticated:
            return None

    assert asyncio.run(ask()) is None
