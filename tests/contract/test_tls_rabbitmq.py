"""The broker on a RabbitMQ that speaks TLS (amqps://)."""

import pytest

from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.domain.errors import SettingsError
from tests.support.broker_backends import now
from tests.support.broker_messages import jobs
from tests.support.rabbitmq_helpers import drain
from tests.support.tls_servers import TlsRabbitMQ

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(authority):
    with TlsRabbitMQ(authority) as running:
        yield running


@pytest.fixture
def secure(server):
    return f"amqps://guest:guest@localhost:{server.tls_port}?cafile={server.authority.ca}"


async def refusal(url):
    """What a service says, and ends."""
    async with RabbitBroker(url, now) as broker:
        with pytest.raises(SettingsError) as caught:
            await broker.ready()
    return str(caught.value)


async def test_both_connections_speak_tls(server, secure):
    async with RabbitBroker(secure, now) as broker:
        await broker.ready()
        await broker.publish(jobs("a"))
        assert server.control("-q", "--no-table-headers", "list_connections", "ssl").split() == ["true", "true"]
    assert await drain(secure) == {"a": False}


async def test_a_client_may_have_a_certificate_of_its_own(server, secure):
    certificate, key = server.authority.sign("worker")
    async with RabbitBroker(f"{secure}&certfile={certificate}&keyfile={key}", now) as broker:
        await broker.ready()
        assert "CN=worker" in server.control("-q", "--no-table-headers", "list_connections", "peer_cert_subject")


@pytest.mark.parametrize("reason", ["signed by a stranger", "for another host", "an authority that this machine does not know"])
async def test_a_certificate_that_cannot_be_verified_is_told_in_one_sentence(server, secure, stranger, reason):
    url = {
        "signed by a stranger": secure.partition("?")[0] + f"?cafile={stranger.ca}",
        "for another host": secure.replace("localhost", "127.0.0.1"),
        "an authority that this machine does not know": secure.partition("?")[0],
    }[reason]
    said = await refusal(url)
    assert said.endswith("; name the CA file in RABBITMQ_URL with ?cafile=/path/to/ca.pem")


async def test_a_client_whose_certificate_the_server_does_not_know_is_told_so(server, secure, stranger):
    certificate, key = stranger.sign("worker")
    said = await refusal(f"{secure}&certfile={certificate}&keyfile={key}")
    assert said.endswith("rejects the client certificate (certfile in RABBITMQ_URL), or requires one")
