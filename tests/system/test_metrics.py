"""The numbers of the running product: what happened is counted once over the three ports, in a form that Prometheus takes."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.support.clients import Clients
from tests.support.promtool import promtool
from worker.handlers import Handlers
from worker.programs.connected import Connected
from worker.programs.metrics import ProgramMetrics

OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
TEXT = {"accept": "text/plain"}


def scrape(client, headers=TEXT):
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def value(text, name, **labels):
    samples = [sample for family in plain(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def test_a_jobs_way_is_counted(sickbay: Clients):
    sickbay.wait(sickbay.submit("counted", {"do": ["NETWORK_ERROR", "ok"]}), "SUCCEEDED")
    api, worker, plane = (scrape(client).text for client in (sickbay.api, sickbay.worker, sickbay.plane))
    assert value(api, "sickbay_submissions_total", job_type="counted", result="accepted") == 1
    assert value(api, "grpc_server_handled_total", grpc_method="SubmitJob", grpc_code="OK") >= 1
    assert value(worker, "sickbay_jobs_total", job_type="counted", outcome="succeeded") == 1
    assert value(worker, "sickbay_jobs_total", job_type="counted", outcome="retried") == 1
    assert value(worker, "sickbay_job_run_seconds_count", job_type="counted") == 2
    assert value(worker, "sickbay_job_runs_total", job_type="counted", kind="success") == 1
    assert value(worker, "sickbay_job_failures_total", job_type="counted", code="NETWORK_ERROR") == 1
    assert value(plane, "sickbay_breaker_state", job_type="counted", state="CLOSED") == 1
    assert value(plane, "sickbay_breaker_state", job_type="counted") == 1
    assert value(plane, "sickbay_ledger_jobs", state="SUCCEEDED") >= 1
    assert value(plane, "sickbay_queue_consumers", queue="jobs.main") == 1
    assert value(worker, "sickbay_submissions_total") == value(plane, "sickbay_jobs_total") == 0


def test_the_control_plane_answers_json_unless_it_is_asked_for_text(sickbay: Clients):
    assert sickbay.plane.get("/metrics").json().keys() >= {"circuitBreakers", "failures"}
    assert scrape(sickbay.plane).headers["content-type"].startswith("text/plain")
    modern = scrape(sickbay.plane, OPENMETRICS)
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert "sickbay_breakers" in {family.name for family in openmetrics(modern.text)}


@pytest.mark.promtool
@pytest.mark.parametrize("service", ["api", "worker", "plane"])
def test_promtool_finds_nothing_to_say(sickbay: Clients, service: str):
    sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
    promtool("check", "metrics", text=scrape(getattr(sickbay, service)).text)


def test_the_documented_metrics_are_those_there_are(sickbay: Clients):
    page = (Path(__file__).parents[2] / "docs/monitoring.md").read_text("utf-8")
    documented = set(re.findall(r"`((?:sickbay|grpc_server)_[a-z_]+)`", page))
    told = set()
    for client in (sickbay.api, sickbay.worker, sickbay.plane):
        for line in scrape(client).text.splitlines():
            if line.startswith(("# TYPE sickbay", "# TYPE grpc")):
                told.add(line.split()[2])
    assert documented == told | _metrics_of_programs()


def _metrics_of_programs() -> set[str]:
    """A worker has them only with WORK_STREAM."""
    registry = CollectorRegistry()
    ProgramMetrics(registry, Connected(Handlers({}), lambda: 0))
    return {line.split()[2] for line in generate_latest(registry).decode().splitlines() if line.startswith("# TYPE ")}
