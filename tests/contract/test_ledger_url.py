"""Which PostgreSQL URLs are understood, and what is never shown of them."""

import ssl
from types import SimpleNamespace

import asyncpg
import pytest

from sickbay.adapters.sql import postgres
from sickbay.adapters.sql.engines import parse_url
from sickbay.domain.errors import SettingsError

BASE = "postgresql://me:s3cret@db.example.com:5433/sickbay"


@pytest.fixture
def connected(monkeypatch):
    """What the driver is asked for, instead of connecting."""
    asked = []

    async def connect(dsn, **options):
        asked.append((dsn, options))
        return SimpleNamespace(_transport=SimpleNamespace(get_extra_info=lambda _: ("127.0.0.1", 1)))

    monkeypatch.setattr(asyncpg, "connect", connect)
    return asked


async def dialled(connected, url):
    await parse_url(url).server.connect()
    return connected.pop()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_all_spellings_of_the_scheme_are_understood(connected, scheme):
    dsn, _ = await dialled(connected, f"{scheme}{BASE.removeprefix('postgresql')}?sslmode=disable")
    assert dsn == f"{BASE}?sslmode=disable"


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=verify-full",
        "sslmode=require&target_session_attrs=read-write",
        "options=-csearch_path%3Dledger",
        "host=%2Frun%2Fpostgresql",
    ],
)
async def test_parameters_of_libpq_reach_the_driver(connected, query):
    assert (await dialled(connected, f"{BASE}?{query}"))[0] == f"{BASE}?{query}"


async def test_parameters_that_only_libpq_knows_are_left_out(connected):
    dsn, _ = await dialled(connected, f"{BASE}?sslmode=require&channel_binding=require&keepalives_idle=30&gssencmode=disable")
    assert dsn == f"{BASE}?sslmode=require"


async def test_parameters_that_the_driver_spells_differently_are_translated(connected):
    dsn, options = await dialled(connected, f"{BASE}?connect_timeout=7&application_name=api&sslmode=verify-full&sslrootcert=system")
    assert dsn == f"{BASE}?sslmode=verify-full"
    assert options["timeout"] == 7
    assert options["server_settings"]["application_name"] == "api"
    assert options["ssl"].verify_mode is ssl.CERT_REQUIRED


async def test_several_hosts_are_understood(connected):
    """Each is asked by itself (`hosts.py`), so that a silent one does not use up the time of the others."""
    url = "postgresql://me@one:5432,two:5433/sickbay?target_session_attrs=primary"
    assert (await dialled(connected, url))[0] == "postgresql://me@one:5432/sickbay?target_session_attrs=primary"


@pytest.mark.parametrize(("query", "wanted"), [("", "primary"), ("?target_session_attrs=any", None)])
async def test_a_standby_is_not_taken_for_the_primary_unless_the_url_says_so(connected, query, wanted):
    """Where an address moves from server to server, it may lead to the standby for a while."""
    assert (await dialled(connected, BASE + query))[1].get("target_session_attrs") == wanted


async def test_every_statement_has_an_end(connected):
    _, options = await dialled(connected, BASE)
    settings = options["server_settings"]
    assert 0 < int(settings["statement_timeout"]) < 1000 * options["command_timeout"]
    assert settings["idle_in_transaction_session_timeout"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{BASE}?sslmod=require", "sslmod"),
        (f"{BASE}?sslmode=sometimes", "sslmode"),
        (f"{BASE}?sslrootcert=/no/such/s3cret.pem", "sslrootcert"),
        (f"{BASE}?connect_timeout=soon", "connect_timeout"),
        (f"{BASE}?sslmode", "not a valid URL"),
        ("postgresql://me:s3cret@db.example.com:port/sickbay", "port"),
        ("postgres+psycopg://me:s3cret@db.example.com/sickbay", "begin with"),
    ],
)
def test_a_url_that_cannot_be_meant_names_what_is_wrong_and_no_secret(url, words):
    with pytest.raises(SettingsError, match=f"DATABASE_URL.*{words}") as caught:
        parse_url(url)
    assert "s3cret" not in str(caught.value)


def test_nothing_secret_is_in_a_repr():
    assert "s3cret" not in repr(parse_url(f"{BASE}?password=s3cret"))


@pytest.mark.parametrize(
    "error", [asyncpg.ClientConfigurationError("root certificate of s3cret"), ssl.SSLCertVerificationError("s3cret does not match")]
)
async def test_what_the_driver_finds_wrong_is_a_settings_error(monkeypatch, error):
    async def connect(*_args, **_options):
        raise error

    monkeypatch.setattr(postgres.asyncpg, "connect", connect)
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        await parse_url(BASE).server.connect()
    assert "s3cret" not in str(caught.value)
