"""Names that clients make up, thousands of them: known ones go on, and neither memory, series, circuits nor Redis grow beyond a figure."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest

from sickbay.jobs.v1 import job_service_pb2 as pb
from tests.hostile.conftest import StartPatient
from tests.support.clients import Clients, refusal
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.hostile_env import Patient
from tests.support.isolated_servers import Corner, own_corner
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)

BATCH: Final = 500
TENANTS: Final = 40
TYPES: Final = 60
FEW: Final = {
    "MAX_TENANTS": str(TENANTS),
    "MAX_JOB_TYPES": str(TYPES),
    "MAX_NEW_NAMES_PER_MINUTE": "5",
    "BREAKER_SCOPE": "tenant",
    "COOLDOWN_PERIOD": "600",
    "RETRY_DELAY_MS": "300",
}
HELD: Final = 100
GOOD: Final = {"jobType": "ok", "payload": {}}
MOST_MB: Final = 40
GROWN_SERIES: Final = 500
"""On each port: 200 circuits, and 100 job types of a few metrics."""


def made_up() -> str:
    return f"x{uuid.uuid4().hex[:20]}"


def submit(sickbay: Clients, jobs: list[dict[str, Any]]) -> Counter[str]:
    """One batch with a good job in it, which is taken; how often each reason came among the others, "" for what was taken."""
    answer = sickbay.api.post("/jobs:batch", json={"jobs": [GOOD, *jobs]})
    assert answer.status_code == 202, answer.text
    first, *results = answer.json()["results"]
    assert first["jobId"]
    for result in results:
        if "error" in result:
            assert (result["error"]["statusCode"], result["error"]["reason"]) == (429, "TOO_MANY_NAMES")
    return Counter(result.get("error", {}).get("reason", "") for result in results)


def fill(sickbay: Clients, tenants: int) -> Counter[str]:
    """Ten jobs each of so many made-up tenants, of a type whose dependency is down."""
    names = [made_up() for _ in range(tenants)]
    return submit(sickbay, [{"jobType": "down", "tenant": name, "payload": {}} for name in names for _ in range(10)])


def flood(sickbay: Clients, batches: int, **fixed: str) -> Counter[str]:
    """Each job with a tenant and a type of its own, but for what is fixed."""
    jobs = ({"jobType": made_up(), "tenant": made_up(), "payload": {}} | fixed for _ in range(batches * BATCH))
    return sum((submit(sickbay, [next(jobs) for _ in range(BATCH)]) for _ in range(batches)), Counter())


def breakers(sickbay: Clients) -> list[Mapping[str, Any]]:
    """All of them."""
    answer = sickbay.plane.get("/breakers")
    assert answer.status_code == 200, answer.text
    found: list[Mapping[str, Any]] = answer.json()["breakers"]
    return found


def series(sickbay: Clients) -> list[int]:
    """On each port."""
    texts = (door.get("/metrics", headers={"accept": "text/plain"}).text for door in (sickbay.api, sickbay.worker, sickbay.plane))
    return [sum(not line.startswith("#") for line in text.splitlines()) for text in texts]


def opened(sickbay: Clients) -> list[str]:
    """The tenants whose circuits are open."""
    return [one["tenant"] for one in breakers(sickbay) if one["state"] == "OPEN"]


@pytest.fixture
def crowded(attacked: StartPatient) -> Patient:
    return attacked(**FEW)


@pytest.fixture
def sickbay(crowded: Patient) -> Iterator[Clients]:
    with Clients(crowded.product) as clients:
        yield clients


def test_made_up_tenants_and_types(crowded: Patient, sickbay: Clients) -> None:
    """Of 6,000 jobs those go in that there is room for; some of their circuits open, and nothing grows any more."""
    Clinic(crowded.folder).break_down("down")
    before = series(sickbay)
    crowded.examine()
    assert fill(sickbay, 50) == {"": 10 * (TENANTS - 1), "TOO_MANY_NAMES": 10 * (51 - TENANTS)}
    until(lambda: len(opened(sickbay)) == TENANTS - 1)
    assert flood(sickbay, 5, tenant="default") == {"": TYPES - 2, "TOO_MANY_NAMES": 5 * BATCH - TYPES + 2}
    assert flood(sickbay, 3, jobType="ok") == {"TOO_MANY_NAMES": 3 * BATCH}
    assert flood(sickbay, 3) == {"TOO_MANY_NAMES": 3 * BATCH}
    sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
    after = series(sickbay)
    assert max(now - then for now, then in zip(after, before, strict=True)) < GROWN_SERIES, (before, after)
    assert len(breakers(sickbay)) == TENANTS - 1 + 1, "made-up types have no handler, so no circuit"
    assert crowded.grown_mb < MOST_MB


def test_who_is_refused_is_told_when_to_come_back(crowded: Patient, sickbay: Clients) -> None:
    """Over REST, in a batch of nothing else, and over gRPC."""
    flood(sickbay, 1)
    new = GOOD | {"tenant": made_up()}
    for answer in (sickbay.api.post("/jobs", json=new), sickbay.api.post("/jobs:batch", json={"jobs": [new]})):
        assert (answer.status_code, answer.json()["reason"]) == (429, "TOO_MANY_NAMES")
        assert "too many tenants: 40 are already in use (MAX_TENANTS)" in answer.json()["message"]
        assert 1 <= int(answer.headers["retry-after"]) <= 60, "names that came once make room after a minute"
    request = pb.SubmitJobRequest(job_type="ok", tenant=made_up(), payload_json="{}")
    with pytest.raises(grpc.RpcError) as caught:
        sickbay.jobs.SubmitJob(request)
    code, reason, message = refusal(caught.value)
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_NAMES")
    assert "MAX_TENANTS" in message
    known = pb.SubmitJobRequest(job_type="ok", payload_json="{}")
    results = sickbay.jobs.BatchSubmitJobs(pb.BatchSubmitJobsRequest(requests=[request, known])).results
    assert (results[0].error.code, bool(results[1].job_id)) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], True)


def force_open(sickbay: Clients, name: str) -> httpx.Response:
    return sickbay.plane.post(f"/breakers/{name}/force-open", json={})


def test_made_up_breakers(crowded: Patient, sickbay: Clients) -> None:
    """They stop at their bound, also if their holds are ended; the sentence tells what helps."""
    names = [made_up() for _ in range(HELD)]
    crowded.examine()
    assert {force_open(sickbay, name).status_code for name in names} == {200}
    for name in names[:50]:
        assert sickbay.plane.post(f"/breakers/{name}/auto", json={}).json()["state"] == "OPEN"
    answer = force_open(sickbay, made_up())
    assert (answer.status_code, answer.json()["reason"], answer.headers["retry-after"]) == (429, "TOO_MANY_NAMES", "60")
    assert "check the name, or reset some of the others" in answer.json()["message"]
    assert force_open(sickbay, names[0]).status_code == 200, "one that exists is obeyed"
    assert sickbay.plane.post(f"/breakers/{names[0]}/reset", json={}).status_code == 200
    assert sickbay.breaker(names[0])["state"] == "CLOSED"
    assert force_open(sickbay, made_up()).status_code == 200
    assert force_open(sickbay, made_up()).status_code == 429
    assert len(breakers(sickbay)) <= HELD + 2
    assert crowded.grown_mb < MOST_MB


def test_a_made_up_breaker_of_a_tenant_is_gone_with_its_reset(crowded: Patient, sickbay: Clients) -> None:
    """Nothing is left of it."""
    place = f"/breakers/ok/%s?tenant={made_up()}"
    assert sickbay.plane.post(place % "force-open", json={}).status_code == 200
    assert len(breakers(sickbay)) == 2
    assert sickbay.plane.post(place % "reset", json={}).status_code == 200
    assert len(breakers(sickbay)) == 1
    assert sickbay.plane.post(place % "reset", json={}).status_code == 404


@pytest.fixture
def corner() -> Iterator[Corner]:
    with own_corner() as made:
        yield made


@pytest.fixture
def fleet(tmp_path: Path, corner: Corner) -> Iterator[Fleet]:
    with Fleet(tmp_path, corner.env) as made:
        yield made


@pytest.mark.servers
def test_redis_forgets_made_up_names(fleet: Fleet, corner: Corner) -> None:
    """Its keys stay as many under the flood; those of open circuits are gone after a reset, those of others after the failure window."""
    clinic = Clinic(fleet.folder)
    fleet.launch_all(workers=1, JOB_HANDLERS="clinic_handlers", BREAKER_FAILURE_WINDOW="5", **FEW).ready()
    with Clients(fleet) as sickbay:
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
        at_first = corner.redis_cli("DBSIZE")
        clinic.break_down("down")
        fill(sickbay, 20)
        until(lambda: len(opened(sickbay)) == 20)
        few = [{"jobType": "bad", "tenant": made_up(), "payload": {"do": "STRANGE"}} for _ in range(10)]
        assert submit(sickbay, few) == {"": 10}
        until(lambda: len([one for one in breakers(sickbay) if one["jobType"] == "bad"]) == 10)
        full = corner.redis_cli("DBSIZE")
        flood(sickbay, 4)
        sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
        assert corner.redis_cli("DBSIZE") <= full + 2 * (TENANTS - 31), "those that there was room for, and no more"
        clinic.repair("down")
        for tenant in opened(sickbay):
            assert sickbay.plane.post(f"/breakers/down/reset?tenant={tenant}", json={}).status_code == 200
        until(lambda: not corner.redis_cli("KEYS", "breaker:*x*"))
        until(lambda: corner.redis_cli("DBSIZE") <= at_first)
        until(lambda: not [name for name in corner.redis_cli("HKEYS", "breakers") if "x" in name])
