"""Everything that may break does, in the middle of thousands of jobs; afterwards the books are exact."""

from __future__ import annotations

import asyncio
from random import Random

import grpc
import pytest

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import ForceOpenBreakerRequest, ListBreakersRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.breakers.v1.incident_pb2 import IncidentEntry
from sickbay.breakers.v1.incident_service_pb2 import GetIncidentRequest, ListIncidentsRequest
from sickbay.breakers.v1.incident_service_pb2_grpc import IncidentServiceStub
from tests.chaos.audit import settle
from tests.support.chaos_env import Arena, open_arena
from tests.support.chaos_faults import rage
from tests.support.chaos_load import Weather
from tests.support.chaos_traffic import Clients

WEATHER = Weather.read()
PATIENCE_S = 90
pytestmark = [pytest.mark.servers, pytest.mark.chaos, pytest.mark.timeout(600 + 120 * WEATHER.rounds)]


@pytest.mark.long
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
        await check_incidents(arena)
    assert len(clients.accepted) >= WEATHER.jobs
    assert clients.edited["resubmitted"]
    assert clients.edited["discarded"]


async def force_open(arena: Arena, job_type: str) -> None:
    """Or its circuit would go on probing for ever, and the books would never be at rest."""
    async with grpc.aio.insecure_channel(arena.targets("controlplane")[0]) as channel:
        await BreakerServiceStub(channel).ForceOpenBreaker(ForceOpenBreakerRequest(job_type=job_type), wait_for_ready=True, timeout=30)


async def check_incidents(arena: Arena) -> None:
    """Every breaker that failures have opened has one open incident, no other has, and the timelines of all are in order."""
    async with grpc.aio.insecure_channel(arena.targets("controlplane")[0]) as channel:
        breakers, incidents = BreakerServiceStub(channel), IncidentServiceStub(channel)
        async with asyncio.timeout(PATIENCE_S):
            while (odd := await _odd_incidents(breakers, incidents)) is not None:
                print(f"incidents are not settled yet: {odd}")
                await asyncio.sleep(1)
        reply = await incidents.ListIncidents(ListIncidentsRequest(page_size=1_000), wait_for_ready=True, timeout=30)
        for listed in reply.incidents:
            wanted = GetIncidentRequest(incident_id=listed.incident_id)
            found = (await incidents.GetIncident(wanted, timeout=30)).incident
            kinds = [entry.kind for entry in found.timeline]
            assert kinds[0] == IncidentEntry.KIND_OPENED
            assert kinds.count(IncidentEntry.KIND_REOPENED) <= found.reopenings
        print(f"{len(reply.incidents)} incidents, {sum(one.reopenings for one in reply.incidents)} re-openings")


async def _odd_incidents(breakers: BreakerServiceStub, incidents: IncidentServiceStub) -> object:
    """What does not belong together; None if everything does."""
    known = (await breakers.ListBreakers(ListBreakersRequest(page_size=1_000), wait_for_ready=True, timeout=30)).breakers
    found = (await incidents.ListIncidents(ListIncidentsRequest(open=True, page_size=1_000), wait_for_ready=True, timeout=30)).incidents
    must = {one.job_type for one in known if one.state in {Breaker.STATE_OPEN, Breaker.STATE_HALF_OPEN} and one.reason_code}
    may = must | {one.job_type for one in known if one.state in {Breaker.STATE_OPEN, Breaker.STATE_HALF_OPEN, Breaker.STATE_FORCED_OPEN}}
    types = [one.job_type for one in found]
    return None if len(types) == len(set(types)) and must <= set(types) <= may else (types, must, may)
