"""A virtual host of our own on the RabbitMQ that the tests use: made at the first need, emptied for each test, deleted at the end.

SICKBAY_TEST_RABBITMQ_URL says where the server is, SICKBAY_TEST_RABBITMQCTL how its `rabbitmqctl` is called
(for a server in a container: "docker exec NAME rabbitmqctl").
"""

import atexit
import os
import shlex
import subprocess
from functools import cache

import aiormq
from yarl import URL

from sickbay.adapters.rabbitmq.topology import EXCHANGES, QUEUES, pool_queue

SERVER = URL(os.environ.get("SICKBAY_TEST_RABBITMQ_URL") or "amqp://guest:guest@localhost:5672")
RABBITMQCTL = shlex.split(os.environ.get("SICKBAY_TEST_RABBITMQCTL") or "rabbitmqctl")


def rabbitmqctl(*arguments):
    """Run one command on the server; fails, with what it said, if that does."""
    done = subprocess.run([*RABBITMQCTL, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{shlex.join([*RABBITMQCTL, *arguments])} failed: {done.stdout}{done.stderr}"
    return done.stdout


@cache
def make_vhost(name):
    """The URL of a virtual host, made at the first call and deleted when this process ends."""
    rabbitmqctl("add_vhost", name)
    atexit.register(rabbitmqctl, "delete_vhost", name)
    rabbitmqctl("set_permissions", "-p", name, SERVER.user, ".*", ".*", ".*")
    return str(SERVER.with_path(f"/{name}"))


@cache
def vhost():
    """The virtual host for all tests of this process that need no other."""
    return make_vhost(f"sickbay-test-{os.getpid()}")


POOL = "reports"
"""The only pool of which tests make a queue."""


async def empty(url):
    """Delete every queue and exchange of ours."""
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        for queue in (*QUEUES, pool_queue(POOL)[0]):
            await channel.queue_delete(queue.name)
        for exchange in EXCHANGES:
            await channel.exchange_delete(exchange.name)


async def fresh_vhost():
    """The URL of the shared virtual host, with nothing of ours in it."""
    await empty(vhost())
    return vhost()
