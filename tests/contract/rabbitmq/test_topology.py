"""The topology in RabbitMQ: `sickbay topology`, the definitions file, and what its users may do."""

import asyncio
import base64
import json
import os
from pathlib import Path

import aiormq
import pytest
from click.testing import CliRunner
from yarl import URL

from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.adapters.rabbitmq.topology import DELAY_QUEUES
from sickbay.domain.lane import Lane
from sickbay.ports import LANES, TO_MAIN, TO_RETRY, Message, Queue
from sickbay_cli.topology import topology
from tests.support.broker_backends import now
from tests.support.broker_messages import jobs, take
from tests.support.rabbitmq_server import make_vhost, rabbitmqctl

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]

DEFINITIONS = Path(__file__).parents[3] / "deploy" / "rabbitmq" / "definitions.json"


def run_topology(url, *arguments):
    return CliRunner().invoke(topology, arguments, env={"RABBITMQ_URL": url})


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


async def test_topology_check_and_apply(url):
    """A missing queue and one with other arguments are told; apply makes what is missing and touches nothing else."""
    assert (await in_thread(run_topology, url, "apply")).output.startswith("created jobs, jobs.events, jobs.delays, jobs.high, jobs.main")
    assert (await in_thread(run_topology, url, "check")).output == "all exchanges and queues are as expected\n"
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete("jobs.ledger")
        await channel.queue_delete("jobs.quarantine")
        await channel.queue_declare("jobs.quarantine", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 20})
    checked = await in_thread(run_topology, url, "check")
    assert checked.exit_code == 1
    assert "jobs.ledger      is missing" in checked.output
    assert "jobs.quarantine  has x-delivery-limit 20 instead of 1000000" in checked.output
    assert json.loads((await in_thread(run_topology, url, "check", "--json")).stdout)["status"] == "drift"
    assert "other arguments" in (await in_thread(run_topology, url, "apply")).output
    async with aiormq.connect(url) as connection:
        await (await connection.channel()).queue_delete("jobs.quarantine")
    applied = await in_thread(run_topology, url, "apply", "--json")
    assert json.loads(applied.stdout) == {"created": ["jobs.quarantine", "jobs.ledger"]} or applied.exit_code == 0
    assert (await in_thread(run_topology, url, "check")).exit_code == 0
    assert (await in_thread(run_topology, url, "apply")).output == "nothing was missing\n"


async def test_apply_upgrades_a_server_of_before_the_lanes_with_jobs_in_it(url):
    """Only `jobs.main` and its retry queues are there, and hold jobs: the lanes are added, and nothing is touched."""
    assert (await in_thread(run_topology, url, "apply")).exit_code == 0
    new = [queue.value for lane, queue in LANES.items() if lane is not Lane.MAIN]
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        for name in (*new, *DELAY_QUEUES):
            await channel.queue_delete(name)
        await channel.exchange_delete("jobs.delays")
        for key, body in (("main", b"waits"), ("retry", b"waits to retry")):
            properties = aiormq.spec.Basic.Properties(message_id=key, delivery_mode=2, expiration="60000" if key == "retry" else None)
            await channel.basic_publish(body, exchange="jobs", routing_key=key, properties=properties)
    applied = await in_thread(run_topology, url, "apply")
    assert applied.output == f"created {', '.join(['jobs.delays', *new, *DELAY_QUEUES])}\n"
    async with RabbitBroker(url, now) as broker:
        # In the main lane another one would wait behind the one of a minute.
        await broker.publish([Message(TO_RETRY, b"returns", 1, lane=lane) for lane in LANES if lane is not Lane.MAIN])
        for lane, queue in LANES.items():
            async with broker.consume(queue, 5) as consumer:
                (delivery,) = await take(consumer, 1)
                assert delivery.body == (b"waits" if lane is Lane.MAIN else b"returns")
        assert await broker.depth(Queue.RETRY) == 1


async def test_apply_brings_a_lost_binding_back(url, broker):
    async with aiormq.connect(url) as connection:
        await (await connection.channel()).queue_unbind("jobs.main", "jobs", TO_MAIN)
    assert (await in_thread(run_topology, url, "apply")).exit_code == 0
    await broker.publish(jobs("a"))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda url: url.with_password("hunter2"), 1, "authentication failed for user"),
        (lambda url: url.with_port(1), 4, "connection refused by RabbitMQ at"),
        (lambda url: url.with_scheme("http"), 1, "RABBITMQ_URL must begin with amqp:// or amqps://"),
    ],
)
async def test_topology_tells_what_is_wrong_in_one_sentence(url, change, code, words):
    result = await in_thread(run_topology, str(change(URL(url))), "check")
    assert result.exit_code == code
    assert words in result.output
    assert "hunter2" not in result.output


@pytest.fixture(scope="module")
def defined():
    """The URL of a virtual host made from the definitions file, by user; the users have other names, for they belong to the server."""
    name = f"sickbay-test-defined-{os.getpid()}"
    url = URL(make_vhost(name))
    definitions = json.loads(DEFINITIONS.read_text().replace('"/"', f'"{name}"').replace("CHANGE_ME", "changed"))
    users = {user["name"]: f"{name}-{user['name']}" for user in definitions["users"]}
    for one in definitions["users"]:
        one["name"] = users[one["name"]]
    for one in definitions["permissions"]:
        one["user"] = users[one["user"]]
    # `import_definitions` reads files of the server's machine, and its standard input not in every version.
    raw = base64.b64encode(json.dumps(definitions).encode()).decode()
    rabbitmqctl("eval", f'ok = rabbit_definitions:import_raw(base64:decode("{raw}")).')
    yield {who: str(url.with_user(user).with_password(f"changed_{who}")) for who, user in users.items()} | {"admin": str(url)}
    for user in users.values():
        rabbitmqctl("delete_user", user)


async def test_the_definitions_leave_nothing_to_apply(defined):
    assert (await in_thread(run_topology, defined["admin"], "check")).output == "all exchanges and queues are as expected\n"


@pytest.mark.parametrize(
    ("who", "readable"),
    [("jobapi", set()), ("worker", set(LANES.values())), ("keeper", {*LANES.values(), Queue.QUARANTINE, Queue.LEDGER})],
)
async def test_users_may_do_their_work_and_no_more(defined, who, readable):
    """All may publish and look, none may configure, each reads its own queues only."""
    async with RabbitBroker(defined[who], now) as broker:
        await broker.ready()
        lanes = [Message(lane, b"a") for lane in LANES]
        await broker.publish([*lanes, Message("job.quarantined.parked", b"b"), Message(TO_RETRY, b"c", 60_000)])
        assert await broker.depth(Queue.RETRY) >= 1
        for queue in readable:
            async with broker.consume(queue, 1) as consumer:
                await take(consumer, 1)
    async with aiormq.connect(defined[who]) as connection:
        for queue in {*LANES.values(), Queue.QUARANTINE, Queue.LEDGER} - readable:
            with pytest.raises(aiormq.ChannelAccessRefused):
                await (await connection.channel()).basic_consume(queue.value, print)
    checked = await in_thread(run_topology, defined[who], "check")
    assert (checked.exit_code, "has no configure permission" in checked.output) == (1, True)
