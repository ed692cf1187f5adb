"""The ledger on a PostgreSQL that speaks TLS: what `sslmode` promises, and what it refuses."""

import asyncio

import pytest

from sickbay.adapters.sql.errors import reason_of
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.domain.errors import SettingsError, Unavailable
from tests.support.broker_backends import now
from tests.support.tls_servers import TlsPostgreSQL

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(authority):
    with TlsPostgreSQL(authority) as running:
        yield running


def url(server, query, host="localhost", user="postgres"):
    return f"postgresql://{user}@{host}:{server.port}/postgres?{query}"


@pytest.mark.parametrize("query", ["sslmode=require", "sslmode=verify-full&sslrootcert={ca}", "sslmode=verify-ca&sslrootcert={ca}"])
async def test_the_whole_ledger_speaks_tls(server, query):
    """The link that listens, and the pool of daily work."""
    async with open_ledger(url(server, query.format(ca=server.authority.ca)), now) as ledger:
        await ledger.link.wait_up()
        assert await ledger.reader.get("00000000-0000-7000-8000-000000000000") is None
        seen = await server.rows("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'sickbay'")
        assert len(seen) >= 2
        assert all(row["ssl"] for row in seen)


async def test_a_client_may_have_a_certificate_instead_of_a_password(server):
    certificate, key = server.authority.sign("badge")
    query = f"sslmode=verify-full&sslrootcert={server.authority.ca}"
    async with open_ledger(url(server, f"{query}&sslcert={certificate}&sslkey={key}", user="badge"), now) as ledger:
        await ledger.link.wait_up()
    with pytest.raises(Unavailable) as caught:
        async with open_ledger(url(server, query, user="badge"), now):
            pass
    assert reason_of(caught.value) == "authentication failed (user or password of DATABASE_URL, or pg_hba.conf)"


async def test_verify_ca_does_not_look_at_the_host_name_and_verify_full_does(server):
    async with open_ledger(url(server, f"sslmode=verify-ca&sslrootcert={server.authority.ca}", host="127.0.0.1"), now) as ledger:
        await ledger.link.wait_up()
    assert "for another host" in await refusal(url(server, f"sslmode=verify-full&sslrootcert={server.authority.ca}", host="127.0.0.1"))


@pytest.mark.parametrize("query", ["sslmode=verify-full&sslrootcert={ca}", "sslmode=verify-ca&sslrootcert={ca}", "sslrootcert=system"])
async def test_a_certificate_signed_by_a_stranger_is_told_in_one_sentence(server, stranger, query):
    said = await refusal(url(server, query.format(ca=stranger.ca)))
    assert said.endswith("the server's certificate is not signed by sslrootcert, or is for another host")


async def refusal(wrong):
    """What a service says, and ends."""
    with pytest.raises(SettingsError) as caught:
        async with open_ledger(wrong, now, patient=True) as ledger:
            await ledger.link.wait_up()
    return str(caught.value)


async def test_a_server_without_tls_is_refused_where_tls_is_asked_for():
    """What it answers to the question whether it speaks TLS is one letter."""

    async def say_no(reader, writer):
        await reader.readexactly(8)
        writer.write(b"N")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_no, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        said = await refusal(f"postgresql://me:s3cret@127.0.0.1:{port}/postgres?sslmode=require")
    assert said.endswith("the server does not support TLS, which sslmode requires")
    assert "s3cret" not in said
