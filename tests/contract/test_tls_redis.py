"""The circuits on a Redis that speaks TLS, and over its socket file."""

import pytest

from sickbay.adapters.redis import feed
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.client import RedisUnavailable, open_client, translated
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState, Refusal
from sickbay.domain.outcome import Outcome, OutcomeKind
from tests.support.breaker_jobs import run
from tests.support.redis_servers import eventually
from tests.support.tls_servers import TlsRedis

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]

CONFIG = BreakerConfig(trip_confirm_ms=0)


@pytest.fixture(scope="module")
def server(authority):
    with TlsRedis(authority) as running:
        yield running


@pytest.fixture
def secure(server):
    return f"rediss://localhost:{server.tls_port}/1?ssl_ca_certs={server.authority.ca}"


async def opened_by_one_and_seen_by_the_other(one, other, key):
    """Commands and the feed both work."""
    async with RedisBreakers(one, CONFIG) as here, RedisBreakers(other, CONFIG) as there:
        await eventually(lambda: not here.is_degraded and not there.is_degraded)
        await run(here, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT"), CONFIG.failure_threshold, key)
        await eventually(lambda: (doc := there._sync.view.get(key)) and doc.state is BreakerState.OPEN)
        assert isinstance(await there.admit(key, "job"), Refusal)


async def test_tls_and_a_socket_file_lead_to_the_same_circuits(server, secure):
    await opened_by_one_and_seen_by_the_other(secure, f"unix://{server.socket}?db=1", BreakerKey("email"))
    await opened_by_one_and_seen_by_the_other(f"unix://{server.socket}?db=1", secure, BreakerKey("sms"))


async def test_a_client_may_have_a_certificate_of_its_own(server, secure):
    certificate, key = server.authority.sign("worker")
    mine = f"{secure}&ssl_certfile={certificate}&ssl_keyfile={key}"
    await opened_by_one_and_seen_by_the_other(mine, secure, BreakerKey("webhook"))


@pytest.fixture
def patient(monkeypatch):
    """What is wrong is found in time, however slow this machine is."""
    monkeypatch.setattr(feed, "FIRST_TRY_S", 20)


async def complaint(url, caplog):
    """The one warning of a worker that starts all the same."""
    patient = f"{url}{'&' if '?' in url else '?'}socket_timeout=10&socket_connect_timeout=10"
    async with RedisBreakers(patient, CONFIG) as breakers:
        assert breakers.is_degraded
    [warning] = [record.getMessage() for record in caplog.records if "degraded" in record.message]
    return warning


@pytest.mark.parametrize("reason", ["signed by a stranger", "for another host", "an authority that this machine does not know"])
async def test_a_certificate_that_cannot_be_verified_is_told_in_one_sentence(patient, secure, stranger, caplog, reason):
    url = {
        "signed by a stranger": secure.partition("?")[0] + f"?ssl_ca_certs={stranger.ca}",
        "for another host": secure.replace("localhost", "127.0.0.1"),
        "an authority that this machine does not know": secure.partition("?")[0],
    }[reason]
    said = await complaint(url, caplog)
    assert "certificate verification failed; name the CA file in REDIS_URL with ?ssl_ca_certs=/path/to/ca.pem" in said


async def test_a_client_whose_certificate_the_server_does_not_know_is_told_so(secure, stranger):
    """Sooner or later: a reset may overtake the server's reason."""
    certificate, key = stranger.sign("worker")
    client = open_client(f"{secure}&ssl_certfile={certificate}&ssl_keyfile={key}")

    async def said():
        with pytest.raises(RedisUnavailable) as caught, translated():
            await client.ping()
        return caught.value.detail == "it rejects the client certificate (ssl_certfile in REDIS_URL), or requires one"

    await eventually(said)
    await client.aclose()
