"""Everything that may break does, in the middle of thousands of jobs; afterwards the books are exact."""

from __future__ import annotations

import asyncio
from random import Random

import grpc
import pytest

from sickbay.breakers.v1.breaker_service_pb2 import ForceOpenBreakerRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from tests.chaos.audit import settle
from tests.support.chaos_env import Arena, open_arena
from tests.support.chaos_faults import rage
from tests.support.chaos_load import Weather
from tests.support.chaos_traffic import Clients

WEATHER = Weather.read()
pytestmark = [pytest.mark.servers, pytest.mark.chaos, pytest.mark.timeout(600 + 120 * WEATHER.rounds)]


async def test_nothing_is_lost_while_everything_breaks():
    """Resets, silence, slowness, refusals, hangs and kills of three servers and three services, and outages of a dependency."""
    async with open_arena() as arena, Clients(arena.targets("jobapi"), arena.targets("controlplane")) as clients:
        storm, day = asyncio.Event(), asyncio.Event()
        arena.clinic.break_down("down")
        async with asyncio.TaskGroup() as work:
            traffic = work.create_task(clients.submit(WEATHER.jobs, storm))
            administration = work.create_task(clients.administer(day))
            happened = await rage(arena, Random(WEATHER.seed), WEATHER.rounds)
            storm.set()
            await traffic
            day.set()
            await administration
        await force_open(arena, "down")
        books = await settle(arena)
        print(f"\nseed {WEATHER.seed}, {len(happened)} faults: {', '.join(happened)}")
        print(f"calls that were refused or cut off: {dict(clients.failed)}; by the administrator: {dict(clients.edited)}")
        print(books.report(clients.accepted))
        books.check(clients.accepted)
    assert len(clients.accepted) >= WEATHER.jobs
    assert clients.edited["resubmitted"]
    assert clients.edited["discarded"]


async def force_open(arena: Arena, job_type: str) -> None:
    """Or its circuit would go on probing for ever, and the books would never be at rest."""
    async with grpc.aio.insecure_channel(arena.targets("controlplane")[0]) as channel:
        await BreakerServiceStub(channel).ForceOpenBreaker(ForceOpenBreakerRequest(job_type=job_type), wait_for_ready=True, timeout=30)
