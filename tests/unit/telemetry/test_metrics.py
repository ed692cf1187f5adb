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

from sickbay.domain.backend_status import BackendStatus
from sickbay.domain.errors import NotFound, Unavailable
from sickbay.messages.publisher import Publisher
from sickbay.observer import Observers
from sickbay.ports import Message
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.interceptors.observe import Call
from sickbay.server.rest.scrape import add_scrape, wants_text
from sickbay.telemetry.backends import BackendStatusCollector, PublishMetrics
from sickbay.telemetry.metrics import BoundedLabels, MetricsRegistry
from tests.support.embedded_backends import open_backends
from tests.support.scraped_metrics import numbers

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.fixture
def told():
    return MetricsRegistry("worker")


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
    bounded = BoundedLabels(2, ["known"])
    assert [bounded(name) for name in ("a", "known", "b", "c", "a", "d")] == ["a", "known", "b", "other", "a", "other"]
    assert set(bounded) == {"a", "b", "known"}


async def test_two_services_of_one_process_do_not_share_numbers():
    one, other = MetricsRegistry("jobapi"), MetricsRegistry("worker")
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


async def test_publishes_are_timed_and_their_failures_counted(told):
    async with open_backends() as backends:
        publisher = Publisher(backends.broker, Observers([PublishMetrics(told.registry)]))
        await publisher.publish([Message("main", b"1"), Message("main", b"2")])
        backends.broker.fail("publish")
        with pytest.raises(Unavailable):
            await publisher.publish([Message("main", b"3")])
    assert await numbers(told, "sickbay_broker_publish_seconds_count") == {(): 1}
    assert await numbers(told, "sickbay_broker_published_messages_total") == {(): 2}
    assert await numbers(told, "sickbay_broker_publish_failures_total") == {(): 1}


async def test_the_parts_behind_a_service_are_told(told):
    BackendStatusCollector(BackendStatus(up={"broker": lambda: True, "ledger": lambda: False}, is_blocked=lambda: True), told.registry)
    assert await numbers(told, "sickbay_backend_up") == {("broker",): 1, ("ledger",): 0}
    assert await numbers(told, "sickbay_broker_blocked") == {(): 1}
