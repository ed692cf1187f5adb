"""A real RabbitMQ starts with the configuration and the definitions of k8s/rabbitmq.yaml, and takes its users."""

from urllib.parse import urlsplit

import aiormq
import pytest

from scripts import manifests
from scripts.servers import RabbitMQ
from tests.deploy.rules import USERS, of, parsed


@pytest.mark.servers
async def test_a_server_with_this_configuration_knows_users_and_queues(tmp_path):
    resources = parsed(manifests.files()["rabbitmq.yaml"])
    secrets, config = of(resources, "Secret"), of(resources, "ConfigMap")["rabbitmq-config"]["data"]["20-sickbay.conf"]
    definitions = tmp_path / "definitions.json"
    definitions.write_text(secrets["rabbitmq-definitions"]["stringData"]["definitions.json"])
    server = RabbitMQ(tmp_path)
    (tmp_path / "rabbitmq.conf").write_text(config.replace("/etc/rabbitmq/sickbay/definitions.json", str(definitions)))
    server.start()
    try:
        server.control("authenticate_user", "guest", "guest")
        assert "jobs.quarantine\tquorum" in server.control("list_queues", "name", "type")
        for name in USERS:
            url = urlsplit(secrets["rabbitmq-urls"]["stringData"][name])
            connection = await aiormq.connect(f"amqp://{url.username}:{url.password}@localhost:{server.port}/")
            channel = await connection.channel()
            await channel.queue_declare("jobs.main", passive=True)
            with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
                await channel.queue_declare("jobs.of.somebody", durable=True)
            await connection.close()
    finally:
        server.stop()
