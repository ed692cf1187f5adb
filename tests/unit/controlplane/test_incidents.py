"""The recorder: what breakers do becomes incidents, also what happened while it was away or the ledger was."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from controlplane import incidents as module
from controlplane.flow_metrics import IncidentMetrics
from controlplane.incident_service import IncidentApi
from controlplane.incidents import IncidentRecorder
from controlplane.metrics import FleetMetrics
from sickbay.breakers.v1 import incident_service_pb2 as pb
from sickbay.domain.breaker import Action, BreakerKey, Command
from sickbay.domain.errors import ErrorReason, InvalidArgument, NotFound
from sickbay.domain.incident import IncidentQuery
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.observer import Observer
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.embedded_backends import open_backends
from tests.support.ledger_events import parked, retrying
from tests.support.scraped_metrics import numbers

EMAIL = BreakerKey("email")
TIMEOUT = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer")


class Heard(Observer):
    def __init__(self):
        self.changes = []
        self.news = asyncio.Event()

    def incident_changed(self, incident, change):
        self.changes.append((incident.key.name, change.value))
        self.news.set()


async def trip(backends, key=EMAIL):
    for number in range(5):
        permit = await backends.breakers.admit(key, f"job-{number}")
        await backends.breakers.settle(permit, TIMEOUT)


async def probe(backends, outcome=SUCCESS, key=EMAIL):
    backends.clock.now += 61_000
    permit = await backends.breakers.admit(key, "probe")
    await backends.breakers.settle(permit, outcome)


@asynccontextmanager
async def recording(backends, observer):
    recorder = IncidentRecorder(backends.breakers, backends.incidents, observer=observer)
    task = asyncio.create_task(recorder.run())
    while not backends.breakers._announcements.watchers:
        await asyncio.sleep(0)
    try:
        yield recorder
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def heard(observer, *changes):
    async with asyncio.timeout(10):
        while observer.changes != list(changes):
            observer.news.clear()
            await observer.news.wait()


async def known(backends):
    return (await backends.incidents.find_incidents(IncidentQuery(), 10, "")).items


async def test_an_outage_is_recorded_as_it_happens():
    observer = Heard()
    async with open_backends() as backends, recording(backends, observer):
        await trip(backends)
        await heard(observer, ("email", "opened"))
        await probe(backends, TIMEOUT)
        await probe(backends)
        await heard(observer, ("email", "opened"), ("email", "closed"))
        (incident,) = await known(backends)
        assert (incident.wasted_runs, incident.cause.code) == (1, "API_TIMEOUT")


async def test_several_recorders_record_it_once():
    first, second = Heard(), Heard()
    async with open_backends() as backends, recording(backends, first), recording(backends, second):
        for act, number in ((trip, 1), (probe, 2)):
            await act(backends)
            async with asyncio.timeout(10):
                while len(first.changes) + len(second.changes) < number:
                    await asyncio.sleep(0)
        assert len(await known(backends)) == 1


async def test_what_happened_while_nobody_watched_is_found_out():
    """An open breaker without an incident gets one; an incident whose breaker is closed, or gone, is closed."""
    observer = Heard()
    async with open_backends() as backends:
        await trip(backends)
        async with recording(backends, observer):
            await heard(observer, ("email", "opened"))
        await probe(backends)
        other = BreakerKey("sms", "acme")
        await trip(backends, other)
        async with recording(backends, observer):
            await heard(observer, ("email", "opened"), ("email", "closed"), ("acme/sms", "opened"))
        await backends.breakers.command(other, Command(Action.RESET))
        assert other not in await backends.breakers.keys()
        async with recording(backends, observer):
            await heard(observer, ("email", "opened"), ("email", "closed"), ("acme/sms", "opened"), ("acme/sms", "closed"))


@pytest.mark.parametrize("broken", ["observe", "unfinished", "count_jobs"])
async def test_a_ledger_that_is_away_delays_the_record(broken, monkeypatch):
    """An outage that began and ended meanwhile is recorded, too."""
    monkeypatch.setattr(module, "FAILED_S", 0.01)
    observer = Heard()
    async with open_backends() as backends:
        backends.incidents.fail(broken, times=3)
        async with recording(backends, observer) as recorder:
            await trip(backends)
            while not recorder._open:
                await asyncio.sleep(0)
            await probe(backends)
            await heard(observer, ("email", "opened"), ("email", "closed"))


async def test_a_local_view_of_the_fleet_changes_nothing(monkeypatch):
    """Without Redis a process sees breakers of its own: neither they nor missing ones are recorded."""
    observer = Heard()
    async with open_backends() as backends:
        await trip(backends)
        recorder = IncidentRecorder(backends.breakers, backends.incidents, observer=observer)
        await recorder._look()
        real = backends.breakers.snapshots

        async def local(keys=None):
            return [replace(one, degraded=True) for one in await real(keys)]

        await probe(backends)
        monkeypatch.setattr(backends.breakers, "snapshots", local, raising=False)
        await recorder._look()
        assert observer.changes == [("email", "opened")]


async def test_jobs_are_counted_and_named_with_their_traces():
    async with open_backends() as backends:
        await trip(backends)
        recorder = IncidentRecorder(backends.breakers, backends.incidents)
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        at = backends.clock.now
        events = [retrying("a", at=at, trace=trace), retrying("b", at=at), parked("p", at=at + 5)]
        await backends.writer.apply(events)
        recorder.observe_events(events)
        await recorder._look()
        await recorder._look()
        (incident,) = await known(backends)
        assert incident.jobs.parked == 1
        assert [(job.job_id, job.trace_id) for job in incident.cause.jobs] == [("a", "0af7651916cd43dd8448eb211c80319c"), ("b", "")]


async def test_metrics():
    told = MetricsRegistry("controlplane")
    async with open_backends() as backends:
        fleet = FleetMetrics(
            told.registry,
            breakers=backends.breakers,
            broker=backends.broker,
            ledger=backends.writer,
            quarantine=backends.quarantine,
            lost=backends.lost,
            incidents=backends.incidents,
            clock=backends.clock,
        )
        told.before_scrape = fleet.refresh
        recorder = IncidentRecorder(backends.breakers, backends.incidents, observer=IncidentMetrics(told.registry))
        await trip(backends)
        await recorder._look()
        assert await numbers(told, "sickbay_incidents_open") == {("email",): 1}
        assert await numbers(told, "sickbay_incidents_total") == {("email",): 1}
        await probe(backends)
        await recorder._look()
        assert await numbers(told, "sickbay_incidents_open") == {}
        assert await numbers(told, "sickbay_incident_recovery_seconds_sum") == {("email",): 61.0}


async def test_the_service_answers_from_the_store():
    async with open_backends() as backends:
        api = IncidentApi(backends.incidents)
        await trip(backends)
        await IncidentRecorder(backends.breakers, backends.incidents)._look()
        (listed,) = (await api.ListIncidents(pb.ListIncidentsRequest(open=True), None)).incidents
        assert (listed.job_type, listed.open, len(listed.timeline)) == ("email", True, 0)
        assert not (await api.ListIncidents(pb.ListIncidentsRequest(open=False), None)).incidents
        wanted = pb.AcknowledgeIncidentRequest(incident_id=listed.incident_id, actor="ada", note="calling them")
        noted = (await api.AcknowledgeIncident(wanted, None)).incident
        assert (noted.acknowledgement.actor, noted.acknowledgement.note, len(noted.timeline)) == ("ada", "calling them", 2)
        assert (await api.GetIncident(pb.GetIncidentRequest(incident_id=listed.incident_id), None)).incident == noted


@pytest.mark.parametrize("incident_id", ["99", "0", "-1", "1e3", "one", "9" * 30, "\u0661"])
async def test_an_unknown_id_is_not_found(incident_id):
    async with open_backends() as backends:
        api = IncidentApi(backends.incidents)
        with pytest.raises(NotFound) as caught:
            await api.GetIncident(pb.GetIncidentRequest(incident_id=incident_id), None)
        assert caught.value.reason is ErrorReason.INCIDENT_NOT_FOUND
        with pytest.raises(NotFound):
            await api.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(incident_id=incident_id), None)


async def test_bad_requests_are_told_what_to_correct():
    async with open_backends() as backends:
        api = IncidentApi(backends.incidents)
        with pytest.raises(InvalidArgument, match="the incident id is missing"):
            await api.GetIncident(pb.GetIncidentRequest(), None)
        with pytest.raises(InvalidArgument, match="the note is 501 characters long"):
            await api.AcknowledgeIncident(pb.AcknowledgeIncidentRequest(incident_id="1", note="x" * 501), None)
