"""The keys of an issuer over HTTP, from a file, and by the settings; an issuer that is away, slow or malicious."""

import asyncio
import json

import pytest

from sickbay.adapters.jwt.fetch import Fetcher, NotFetched, checked_url
from sickbay.adapters.jwt.key_set import MAX_SET_BYTES, parse_set
from sickbay.adapters.jwt.keys import LEAST_REFRESH_S, MOST_REFRESH_S, REFRESH_S, IssuerKeys, from_file, from_issuer, from_url
from sickbay.adapters.jwt.rules import DEFAULT_ALGORITHMS
from sickbay.domain.errors import MissingSetting, SettingsError, Unauthenticated, Unavailable
from sickbay.ports.access import Credentials
from sickbay.runtime.access import open_access
from sickbay.runtime.settings import Settings
from sickbay.runtime.tokens import open_tokens
from tests.support.token_issuer import AUDIENCE, ENDLESS_CHUNKS, IssuerServer, SigningKey

KEY, NEW = SigningKey("a"), SigningKey("b")
ALGORITHMS = frozenset(DEFAULT_ALGORITHMS)


@pytest.fixture
def issuer():
    with IssuerServer(KEY).serving() as server:
        yield server


def claims(issuer, **changes):
    return {"iss": issuer.url, "aud": AUDIENCE, "sub": "shop", "exp": 9_999_999_999} | changes


def settings(issuer, **changes):
    return Settings.read(**{"auth": "required", "jwt_issuer": issuer.url, "jwt_audience": AUDIENCE} | changes)


async def test_the_set_is_fetched_with_its_age(issuer):
    issuer.headers = {"Cache-Control": "public, max-age=120, must-revalidate"}
    document = await Fetcher().get(issuer.jwks_url)
    assert document.max_age_s == 120
    assert [key.kid for key in parse_set(document.body, ALGORITHMS).keys] == ["a"]


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [("redirect", "302, and redirects are not followed"), ("error", "500"), ("endless", "larger than"), ("no http", "in HTTP")],
)
async def test_a_strange_answer_is_no_set(issuer, behaviour, why):
    """A redirect is not followed, and of an endless body little is read."""
    issuer.behaviour = behaviour
    with pytest.raises(NotFetched, match=why):
        await Fetcher().get(issuer.jwks_url)
    assert issuer.asked == ["/jwks"]
    assert ENDLESS_CHUNKS * 65_536 > 10 * MAX_SET_BYTES


async def test_an_issuer_that_does_not_answer_is_given_up(issuer):
    issuer.behaviour = "hang"
    with pytest.raises(NotFetched, match="within"):
        await Fetcher(timeout_s=0.05).get(issuer.jwks_url)


async def test_an_issuer_that_is_not_there():
    with IssuerServer(KEY).serving() as gone:
        pass
    with pytest.raises(NotFetched, match="cannot be reached"):
        await Fetcher().get(gone.jwks_url)


async def test_discovery_is_of_the_issuer_itself(issuer):
    assert await Fetcher().discover(issuer.url) == issuer.jwks_url
    for wrong in (
        {"issuer": "https://other.example.com"},
        {"jwks_uri": 7},
        {"jwks_uri": "http://other.example.com/jwks"},
        {"jwks_uri": "file:///etc"},
    ):
        issuer.discovery = wrong
        with pytest.raises(NotFetched):
            await Fetcher().discover(issuer.url)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example.com/jwks",
        "ftp://localhost/",
        "https://",
        "https://user:pw@issuer.example.com/",
        "https://issuer.example.com:0x/",
        "http://localhost.example.com/",
        "http://127.0.0.1.example.com/",
        "https://issuer.example.com/a b",
        "https://issuer.example.com/#x",
        "http://192.168.0.1/",
    ],
)
def test_addresses_where_keys_could_be_replaced_are_refused(url):
    with pytest.raises(SettingsError, match="NAME"):
        checked_url(url, "NAME")


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/jwks", "http://127.1.2.3/", "http://[::1]:9/x", "https://issuer.example.com/jwks?x=1"]
)
def test_addresses_that_may_be_used(url):
    assert checked_url(url, "NAME") == url


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, REFRESH_S),
        ({"Cache-Control": "max-age=1"}, LEAST_REFRESH_S),
        ({"Cache-Control": "max-age=999999"}, MOST_REFRESH_S),
        ({"Cache-Control": "no-store"}, REFRESH_S),
        ({"Cache-Control": "max-age=600"}, 600),
    ],
)
async def test_the_set_is_refreshed_as_often_as_its_server_says(issuer, header, expected):
    """Within bounds; the next look comes after that wait, and after a short one while the issuer is away."""
    issuer.headers = header
    waits, steps = asyncio.Queue(), asyncio.Queue()

    async def sleep(seconds):
        waits.put_nowait(seconds)
        await steps.get()

    keys = IssuerKeys(from_url(issuer.jwks_url, Fetcher()), ALGORITHMS, sleep=sleep)
    running = asyncio.create_task(keys.run())
    try:
        assert await waits.get() == expected
        issuer.keys = [NEW]
        steps.put_nowait(None)
        await waits.get()
        assert (await keys.current()).knows("b")
        issuer.behaviour = "error"
        steps.put_nowait(None)
        assert await waits.get() < 2
        assert (await keys.current()).knows("b")
    finally:
        running.cancel()
        await asyncio.wait([running])
        await keys.close()


async def test_tokens_by_the_issuers_own_document(issuer):
    """And a key that is rotated in while we run."""
    async with open_access(settings(issuer)) as access:
        assert (await access.identify(Credentials(KEY.token(claims(issuer))))).name == "shop"
        issuer.keys = [KEY, NEW]
        assert (await access.identify(Credentials(NEW.token(claims(issuer))))).credential == "b"
        with pytest.raises(Unauthenticated, match="another issuer"):
            await access.identify(Credentials(KEY.token(claims(issuer, iss="https://other"))))


async def test_headers_that_lead_elsewhere_are_not_followed(issuer):
    async with open_tokens(settings(issuer, jwt_jwks_url=issuer.jwks_url)) as tokens:
        await tokens.authenticate(Credentials(KEY.token(claims(issuer))))
        stranger = SigningKey("a")
        for header in ({"jku": f"{issuer.url}/evil"}, {"x5u": f"{issuer.url}/evil"}, {"jwk": stranger.public}):
            with pytest.raises(Unauthenticated):
                await tokens.authenticate(Credentials(stranger.token(claims(issuer), **header)))
    assert set(issuer.asked) == {"/jwks"}


async def test_a_service_starts_without_its_issuer(issuer):
    issuer.behaviour = "error"
    async with open_tokens(settings(issuer, jwt_jwks_url=issuer.jwks_url)) as tokens:
        with pytest.raises(Unavailable):
            await tokens.authenticate(Credentials(KEY.token(claims(issuer))))


async def test_keys_of_a_file_that_changes(issuer, tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [KEY.public]}))
    async with open_tokens(settings(issuer, jwt_jwks_file=str(path))) as tokens:
        assert (await tokens.authenticate(Credentials(KEY.token(claims(issuer))))).name == "shop"
        path.write_text(json.dumps({"keys": [NEW.public]}))
        assert (await tokens.authenticate(Credentials(NEW.token(claims(issuer))))).name == "shop"
        with pytest.raises(Unauthenticated):
            await tokens.authenticate(Credentials(KEY.token(claims(issuer))))
    assert issuer.asked == []
    path.unlink()
    with pytest.raises(NotFetched, match="cannot be read"):
        await from_file(path)()


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"jwt_audience": None}, MissingSetting, "JWT_AUDIENCE"),
        ({"jwt_issuer": None}, MissingSetting, "JWT_ISSUER"),
        ({"jwt_jwks_url": "https://a/", "jwt_jwks_file": "x"}, SettingsError, "not both"),
        ({"jwt_jwks_url": "http://issuer.example.com/"}, SettingsError, "JWT_JWKS_URL must begin with https"),
        ({"jwt_issuer": "auth"}, SettingsError, "or set JWT_JWKS_URL"),
        ({"jwt_jwks_file": "/nowhere/jwks.json"}, SettingsError, "cannot be read"),
        ({"jwt_jwks_file": "/dev/null"}, SettingsError, "JSON"),
        ({"jwt_algorithms": "HS256"}, SettingsError, "anybody could sign"),
        ({"jwt_roles": "x"}, SettingsError, "JWT_ROLES"),
    ],
)
async def test_settings_that_cannot_be_meant(changes, error, why):
    wrong = {"jwt_issuer": "https://issuer.example.com", "jwt_audience": "x"} | changes
    with pytest.raises(error, match=why):
        async with open_tokens(Settings.read(**wrong)):
            pass


async def test_without_an_issuer_there_are_no_tokens():
    async with open_tokens(Settings.read()) as tokens:
        assert tokens is None


async def test_discovery_is_asked_anew_at_each_look(issuer):
    load = from_issuer(issuer.url, Fetcher())
    await load()
    issuer.discovery = {"jwks_uri": f"{issuer.url}/moved"}
    await load()
    assert issuer.asked[1::2] == ["/jwks", "/moved"]
