"""The queue of a pool in RabbitMQ: made by `sickbay topology apply --pool`, and used as that of a lane."""

import asyncio

import pytest
from click.testing import CliRunner
from yarl import URL

from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.domain.lane import Lane
from sickbay.ports import TO_RETRY, Message, PoolQueue, Queue
from sickbay_cli.topology import topology
from tests.support.broker_backends import now
from tests.support.broker_messages import bodies, jobs, take
from tests.support.rabbitmq_server import rabbitmqctl

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]
REPORTS = PoolQueue("reports")
MISSING = "jobs.pool.reports is missing"


async def run_topology(url, *arguments):
    return await asyncio.to_thread(CliRunner().invoke, topology, arguments, env={"RABBITMQ_URL": url})


async def test_apply_makes_the_queue_of_a_pool_and_check_misses_it(url):
    await run_topology(url, "apply")
    checked = await run_topology(url, "check", "--pool", "reports")
    assert (checked.exit_code, "jobs.pool.reports  is missing" in checked.output) == (1, True)
    assert (await run_topology(url, "apply", "--pool", "reports")).output == "created jobs.pool.reports\n"
    assert (await run_topology(url, "check", "--pool", "reports")).exit_code == 0
    assert (await run_topology(url, "apply", "--pool", "Reports!")).exit_code == 2


async def test_jobs_of_a_pool_wait_return_after_a_delay_and_are_counted(url):
    """Behind none of another lane, with their headers, and whatever the delay."""
    async with RabbitBroker(url, now, pools=["reports"]) as broker:
        await broker.ready()
        await broker.publish(jobs("one", key=REPORTS.key))
        headers = {"put-off": "1"}
        await broker.publish([Message(TO_RETRY, b"two", delay, REPORTS.key, headers=headers) for delay in (0, 20)])
        await broker.publish([Message(TO_RETRY, b"other", 1, Lane.HIGH)])
        async with broker.consume(REPORTS, 10) as consumer, broker.consume(Queue.POOLS, 1):
            taken = await take(consumer, 3)
            assert bodies(taken) == ["one", "two", "two"]
            assert [dict(delivery.headers) for delivery in taken] == [{}, headers, headers]
            assert [await broker.consumers(queue) for queue in (REPORTS, Queue.POOLS, Queue.MAIN)] == [1, 1, 0]
            for delivery in taken[:2]:
                delivery.ack()
            taken[2].nack()
            (again,) = await take(consumer, 1)
            assert again.redelivered
        async with broker.consume(REPORTS, 1) as consumer:
            assert bodies(await take(consumer, 1)) == ["two"]


async def test_a_worker_whose_queue_is_missing_says_what_to_do(url, caplog):
    """Its user may not configure; once an administrator has made the queue, it goes on by itself."""
    await run_topology(url, "apply")
    address, user = URL(url), f"pool-worker-{URL(url).path[1:]}"
    rabbitmqctl("add_user", user, "secret")
    rabbitmqctl("set_permissions", "-p", address.path[1:], user, "^$", ".*", ".*")
    try:
        async with RabbitBroker(str(address.with_user(user).with_password("secret")), now, pools=["reports"]) as broker:
            async with asyncio.timeout(30):
                while MISSING not in caplog.text:
                    await asyncio.sleep(0)
            assert broker.trouble
            assert "run `sickbay topology apply --pool reports` as an administrator" in caplog.text
            await run_topology(url, "apply", "--pool", "reports")
            async with asyncio.timeout(30):
                await broker.ready()
            await broker.publish(jobs("a", key=REPORTS.key))
    finally:
        rabbitmqctl("delete_user", user)
