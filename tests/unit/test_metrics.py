"""What a scrape answers: in which form, with bounded labels, and never more than was asked and answered."""

import asyncio
from contextlib import suppress

import grpc
import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from controlplane.metered import KeeperMetrics, MeteredWriter, ReleaseMetrics, SweepMetrics, Transitions
from controlplane.metrics import FleetMetrics
from controlplane.release import Releaser
from controlplane.sweep import Swept
from jobapi.intake import Accepted
from jobapi.metrics import MeteredIntake
from sickbay import JobError
from sickbay.circuit import Action, CircuitState, Command, Key, PermitKind, Refusal
from sickbay.errors import InvalidArgument, NotFound, Unavailable
from sickbay.job import Event, Job, Reason, State
from sickbay.ports import Message
from sickbay.queries import Entry
from sickbay.rpc.around import Call
from sickbay.rpc.metered import CallMeter
from sickbay.rpc.scrape import add_scrape, wants_text
from sickbay.telemetry.backends import MeteredBroker, VitalsCollector
from sickbay.telemetry.metrics import Bounded, Exposition
from sickbay.vitals import Vitals
from sickbay.wire_requests import Submission
from tests.clock import ManualClock
from tests.unit.embedded_bench import open_backends
from tests.unit.engine_stubs import does, job, open_bench

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.fixture
def told():
    return Exposition("worker")


async def numbers(told, name):
    """The samples of one metric, by the values of their labels, in the order of the labels' names."""
    body, _ = await told.text("")
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in plain(body.decode())
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json, text/plain, */*", False),
        ("text/plain;q=0.5, application/json", False),
        ("text/plain;q=nonsense", False),
        ("text/plain", True),
        ("Text/Plain; version=0.0.4", True),
        ("application/openmetrics-text; version=1.0.0", True),
        (PROMETHEUS, True),
        ("application/json;q=0.1, text/plain;q=0.2", True),
    ],
)
def test_people_and_scripts_get_json_and_prometheus_its_text(accept, text):
    assert wants_text(accept) is text


async def test_a_scrape_is_text_or_openmetrics_without_created_series(told):
    Counter("things", "Some.", registry=told.registry).inc()
    app = FastAPI()
    add_scrape(app, told)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        text = await client.get("/metrics")
        modern = await client.get("/metrics", headers={"accept": PROMETHEUS})
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")
    for families in (list(plain(text.text)), list(openmetrics(modern.text))):
        names = {sample.name for family in families for sample in family.samples}
        assert {"things_total", "sickbay_build_info", "process_resident_memory_bytes"} <= names
        assert not [name for name in names if name.endswith("_created")]


def test_names_beyond_a_bound_are_other():
    bounded = Bounded(2, ["known"])
    assert [bounded(name) for name in ("a", "known", "b", "c", "a", "d")] == ["a", "known", "b", "other", "a", "other"]
    assert set(bounded) == {"a", "b", "known"}


async def test_two_services_of_one_process_do_not_share_numbers():
    one, other = Exposition("jobapi"), Exposition("worker")
    CallMeter(one.registry)
    CallMeter(other.registry)
    assert await numbers(one, "sickbay_build_info") != await numbers(other, "sickbay_build_info")


class Refusing:
    def code(self):
        return grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, "OK"),
        (NotFound("no"), "NOT_FOUND"),
        (Unavailable("away"), "UNAVAILABLE"),
        (ValueError("a fault"), "INTERNAL"),
        (NotImplementedError(), "UNIMPLEMENTED"),
        (asyncio.CancelledError(), "CANCELLED"),
        (GeneratorExit(), "CANCELLED"),
    ],
)
async def test_calls_are_counted_by_the_code_the_client_gets(told, error, code):
    meter = CallMeter(told.registry)
    with suppress(*([type(error)] if error else [])), meter(Call("service", "Method", Refusing(), is_stream=False)):
        if error is not None:
            raise error
    assert await numbers(told, "grpc_server_handled_total") == {(code, "Method", "service"): 1}
    assert await numbers(told, "grpc_server_handling_seconds_count") == {("Method", "service"): 1}


class StubIntake:
    async def accept(self, submissions):
        results = {"": Accepted(Job("a", "email")), "again": Accepted(Job("b", "email"), duplicate=True), "bad": InvalidArgument("no")}
        return [results[submission.request_id] for submission in submissions]


async def test_submissions_are_counted_by_type_up_to_a_bound_and_by_result(told):
    intake = MeteredIntake(StubIntake(), told.registry)
    kinds = [f"type-{number}" for number in range(150)]
    await intake.accept([Submission("email", "default", b"{}", key) for key in ("", "", "again", "bad")])
    await intake.accept([Submission(kind, "default", b"{}") for kind in kinds])
    counted = await numbers(told, "sickbay_submissions_total")
    assert counted["email", "accepted"] == 2
    assert counted["email", "duplicate"] == counted["email", "refused"] == 1
    assert counted["other", "accepted"] == 51
    assert len({job_type for job_type, _ in counted}) == 101


async def fine(job):
    pass


def fails(*args):
    async def run(job):
        raise JobError(*args)

    return run


async def test_every_outcome_of_a_job_is_counted():
    async with open_bench(does(fine)) as bench:
        await bench.run_one(job())
        bench.fence.entry = Entry(superseded=True)
        await bench.run_one(job(attempt=1))
        bench.fence.entry = Entry(superseded=False)
        bench.breakers.answer = Refusal(Key("email"), CircuitState.OPEN)
        await bench.run_one(job())
        await bench.run_one(Job("k", "nobody-knows-me", submitted_at=1))
        await bench.run_one(body=b"not a job")
        outcomes = await numbers(bench.told, "sickbay_jobs_total")
        reasons = await numbers(bench.told, "sickbay_jobs_set_aside_total")
        waits = await numbers(bench.told, "sickbay_job_wait_seconds_count")
    assert outcomes["email", "succeeded"] == outcomes["email", "dropped"] == outcomes["email", "parked"] == 1
    assert outcomes["other", "quarantined"] == 2
    told_reasons = {labels: count for labels, count in reasons.items() if count}
    assert told_reasons == {("email", "CIRCUIT_OPEN"): 1, ("other", "UNKNOWN_TYPE"): 1, ("other", "UNDECODABLE"): 1}
    assert {("email", reason.value) for reason in Reason} < set(reasons), "an alert sees the first of them only if it was 0 before"
    assert waits == {("email",): 1, ("other",): 0}


async def test_runs_failures_and_probes_are_counted():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        await bench.run_one(job())
        bench.breakers.kind = PermitKind.PROBE
        await bench.run_one(job())
        runs = await numbers(bench.told, "sickbay_job_runs_total")
        failures = await numbers(bench.told, "sickbay_job_failures_total")
        probes = await numbers(bench.told, "sickbay_breaker_probes_total")
        times = await numbers(bench.told, "sickbay_job_run_seconds_count")
        outcomes = await numbers(bench.told, "sickbay_jobs_total")
    assert (runs["email", "systemic"], runs["email", "success"]) == (2, 0)
    assert failures == {("API_TIMEOUT", "email"): 2}
    assert (probes["email", "ill"], probes["email", "well"]) == (1, 0)
    assert times["email",] == 2
    assert outcomes["email", "retried"] == 2


async def test_error_codes_beyond_a_bound_are_other():
    codes = iter(f"CODE_{number}" for number in range(60))

    async def invent(job):
        raise JobError(next(codes))

    async with open_bench(does(invent)) as bench:
        for _ in range(60):
            await bench.run_one(job())
        failures = await numbers(bench.told, "sickbay_job_failures_total")
    assert len(failures) == 51
    assert failures["other", "email"] == 10


async def test_publishes_are_timed_and_their_failures_counted(told):
    async with open_backends() as backends:
        broker = MeteredBroker(backends.broker, told.registry)
        await broker.publish([Message("main", b"1"), Message("main", b"2")])
        backends.broker.fail("publish")
        with pytest.raises(Unavailable):
            await broker.publish([Message("main", b"3")])
    assert await numbers(told, "sickbay_broker_publish_seconds_count") == {(): 1}
    assert await numbers(told, "sickbay_broker_published_messages_total") == {(): 2}
    assert await numbers(told, "sickbay_broker_publish_failures_total") == {(): 1}


async def test_the_parts_behind_a_service_are_told(told):
    VitalsCollector(Vitals(up={"broker": lambda: True, "ledger": lambda: False}, is_blocked=lambda: True), told.registry)
    assert await numbers(told, "sickbay_backend_up") == {("broker",): 1, ("ledger",): 0}
    assert await numbers(told, "sickbay_broker_blocked") == {(): 1}


def parked(job_id):
    return Event(Job(job_id, "email", b"{}", submitted_at=1), State.PARKED, 5, reason=Reason.CIRCUIT_OPEN)


async def test_the_fleet_is_asked_at_each_scrape_and_what_does_not_answer_is_left_out(told):
    async with open_backends() as backends:
        fleet = FleetMetrics(
            told.registry, breakers=backends.breakers, broker=backends.broker, ledger=backends.writer, wards=backends.wards
        )
        told.before = fleet.refresh
        await backends.breakers.command(Key("email"), Command(Action.FORCE_OPEN))
        await backends.writer.apply([parked("a"), parked("b")])
        assert await numbers(told, "sickbay_breaker_state") == {
            ("email", state.value, "default"): float(state is CircuitState.FORCED_OPEN) for state in CircuitState
        }
        assert (await numbers(told, "sickbay_breakers"))["FORCED_OPEN",] == 1
        assert await numbers(told, "sickbay_parked_jobs") == {("email", "default"): 2}
        assert await numbers(told, "sickbay_quarantine_surplus") == {(): -2}
        assert (await numbers(told, "sickbay_queue_messages")).keys() == {(f"jobs.{q}",) for q in ("main", "retry", "quarantine", "ledger")}
        backends.writer.fail("counts")
        backends.breakers.fail("snapshots")
        body, _ = await told.text("")
        for name in ("sickbay_ledger_jobs{", "sickbay_breakers{", "sickbay_breaker_state{", "sickbay_quarantine_surplus "):
            assert f"\n{name}" not in body.decode()
        assert await numbers(told, "sickbay_parked_jobs") == {("email", "default"): 2}


async def test_transitions_are_counted(told):
    async with open_backends() as backends:
        transitions = Transitions(backends.breakers, told.registry)
        following = asyncio.create_task(transitions.run())
        while not backends.breakers._watchers:
            await asyncio.sleep(0)
        for action in (Action.FORCE_OPEN, Action.RESET):
            await backends.breakers.command(Key("email"), Command(action))
            while not (await numbers(told, "sickbay_breaker_transitions_total")).get(("email", _STATES[action])):
                await asyncio.sleep(0)
        following.cancel()
        assert await numbers(told, "sickbay_breaker_transitions_total") == {("email", "FORCED_OPEN"): 1, ("email", "CLOSED"): 1}


_STATES = {Action.FORCE_OPEN: "FORCED_OPEN", Action.RESET: "CLOSED"}


async def test_releases_are_counted_by_whoever_asked(told):
    metrics = ReleaseMetrics(told.registry)
    async with open_backends() as backends:
        await backends.writer.apply([parked("a")])
        releaser = metrics.around(Releaser(backends.broker, backends.wards), "healer")
        claims = await backends.wards.claim_parked(Key("email"), 5)
        backends.broker.fail("publish")
        with pytest.raises(Unavailable):
            await releaser.release(claims)
        await releaser.release(claims)
    assert await numbers(told, "sickbay_released_jobs_total") == {("healer",): 1}
    assert await numbers(told, "sickbay_release_failures_total") == {(): 1}


async def test_the_keeper_the_ledger_and_the_sweep_are_heard(told):
    clock = ManualClock()
    keeper, sweep = KeeperMetrics(told.registry, clock), SweepMetrics(told.registry)
    async with open_backends(clock) as backends:
        writer = MeteredWriter(backends.writer, told.registry)
        backends.writer.fail("apply")
        event = parked("a")
        with pytest.raises(Unavailable):
            await writer.apply([event])
        await writer.apply([event])
        assert await writer.counts() == await backends.writer.counts()
    keeper.heard([event, event])
    sweep.heard(Swept(1, ghosts=3, kept=2, told=1))
    assert await numbers(told, "sickbay_keeper_lag_seconds") == {(): (clock() - 5) / 1000}
    assert (await numbers(told, "sickbay_ledger_events_total"))["PARKED",] == 2
    assert await numbers(told, "sickbay_ledger_apply_failures_total") == {(): 1}
    assert await numbers(told, "sickbay_sweep_copies_total") == {("ghost",): 3, ("kept",): 2, ("told",): 1, ("remade",): 0}
