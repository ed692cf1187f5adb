"""Bad input over REST: the right status, the documented body, and never a word of the machinery inside."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.leaks import assert_for_people

MIB = 1024 * 1024
GOOD = {"jobType": "ok", "payload": {}}

BODIES: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{'jobType'", 400, "INVALID_FIELD"),
    "no body": (b"", 400, "INVALID_JOB_TYPE"),
    "not UTF-8": (b'{"jobType": "\xff"}', 400, "INVALID_FIELD"),
    "payload not UTF-8": (b'{"jobType": "ok", "payload": {"a": "\xff"}}', 400, "INVALID_PAYLOAD"),
    "a list": (b"[]", 400, "INVALID_FIELD"),
    "null": (b"null", 400, "INVALID_FIELD"),
    "two objects": (b"{}{}", 400, "INVALID_FIELD"),
    "no payload": (b'{"jobType": "ok"}', 400, "INVALID_PAYLOAD"),
    "payload a list": (b'{"jobType": "ok", "payload": []}', 400, "INVALID_PAYLOAD"),
    "payload null": (b'{"jobType": "ok", "payload": null}', 400, "INVALID_PAYLOAD"),
    "payload a string": (b'{"jobType": "ok", "payload": "{}"}', 400, "INVALID_PAYLOAD"),
    "payload too deep": (b'{"jobType": "ok", "payload": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400, "INVALID_PAYLOAD"),
    "payload too large": (json.dumps({"jobType": "ok", "payload": {"a": "x" * MIB}}).encode(), 413, "PAYLOAD_TOO_LARGE"),
    "body too large": (b" " * (2 * MIB) + b"{}", 413, "PAYLOAD_TOO_LARGE"),
    "no job type": (b'{"payload": {}}', 400, "INVALID_JOB_TYPE"),
    "empty job type": (b'{"jobType": "", "payload": {}}', 400, "INVALID_JOB_TYPE"),
    "malformed job type": (b'{"jobType": "E Mail", "payload": {}}', 400, "INVALID_JOB_TYPE"),
    "job type with a new line": (b'{"jobType": "ok\\n", "payload": {}}', 400, "INVALID_JOB_TYPE"),
    "endless job type": (json.dumps({"jobType": "a" * 65, "payload": {}}).encode(), 400, "INVALID_JOB_TYPE"),
    "job type a number": (b'{"jobType": 7, "payload": {}}', 400, "INVALID_FIELD"),
    "unknown field": (b'{"jobType": "ok", "payload": {}, "priority": 1}', 400, "INVALID_FIELD"),
    "bad tenant": (b'{"jobType": "ok", "payload": {}, "tenant": "A/B"}', 400, "INVALID_FIELD"),
}


def assert_refused(answer: httpx.Response, status: int, reason: str) -> str:
    """The documented body; the message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    told: dict[str, Any] = answer.json()
    assert told.keys() == {"statusCode", "message", "reason"}
    assert (told["statusCode"], told["reason"]) == (status, reason)
    assert_for_people(told["message"])
    return str(told["message"])


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_submission_is_refused(case: str, sickbay: Clients):
    body, status, reason = BODIES[case]
    assert_refused(sickbay.api.post("/jobs", content=body, headers={"content-type": "application/json"}), status, reason)


def test_a_bad_item_does_not_harm_its_batch(sickbay: Clients):
    """Each item is judged by itself; a batch without any good one, an empty one and one too many are refused whole."""
    answer = sickbay.api.post("/jobs:batch", json={"jobs": [GOOD, {"jobType": "NO"}, 7, GOOD]}).json()
    assert (answer["accepted"], answer["refused"]) == (2, 2)
    assert [result.get("error", {}).get("reason") for result in answer["results"]] == [None, "INVALID_JOB_TYPE", "INVALID_FIELD", None]
    for result in answer["results"][1:3]:
        assert result["error"]["statusCode"] == 400
        assert_for_people(result["error"]["message"])
    assert_refused(sickbay.api.post("/jobs:batch", json={"jobs": [{"jobType": "NO"}]}), 400, "INVALID_JOB_TYPE")
    assert_refused(sickbay.api.post("/jobs:batch", json={"jobs": []}), 400, "INVALID_FIELD")
    assert_refused(sickbay.api.post("/jobs:batch", json={"jobs": [GOOD] * 1001}), 400, "INVALID_FIELD")
    assert_refused(sickbay.api.post("/jobs:batch", json={}), 400, "INVALID_FIELD")


@pytest.mark.parametrize("key", ["", "x" * 129, "caf\u00e9", "tab\there"])
def test_a_bad_idempotency_key_is_refused(key: str, sickbay: Clients):
    assert_refused(sickbay.api.post("/jobs", json=GOOD, headers={"Idempotency-Key": key.encode("latin-1")}), 400, "INVALID_FIELD")


def test_two_idempotency_keys_are_refused_and_an_empty_one_in_a_batch(sickbay: Clients):
    """Whoever sends these believes to be safe against repeats, and is not."""
    for second in ("a", "b"):
        assert_refused(
            sickbay.api.post("/jobs", json=GOOD, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", second)]), 400, "INVALID_FIELD"
        )
    assert_refused(sickbay.api.post("/jobs:batch", json={"jobs": [GOOD | {"idempotencyKey": ""}]}), 400, "INVALID_FIELD")


@pytest.mark.parametrize("twice", ["jobType", "payload", "tenant"])
def test_a_name_that_comes_twice_is_refused(twice: str, sickbay: Clients):
    """One of them would be dropped silently; inside of a payload both are kept, for it is not ours."""
    fields = GOOD | {"tenant": "default"}
    job = json.dumps(fields)[:-1] + f', "{twice}": {json.dumps(fields[twice])}}}'
    headers = {"content-type": "application/json"}
    assert twice in assert_refused(sickbay.api.post("/jobs", content=job, headers=headers), 400, "INVALID_FIELD")
    answer = sickbay.api.post("/jobs:batch", content=f'{{"jobs": [{job}, {json.dumps(GOOD)}]}}', headers=headers).json()
    assert [result.get("error", {}).get("reason") for result in answer["results"]] == ["INVALID_FIELD", None]
    assert_refused(sickbay.api.post("/jobs:batch", content='{"jobs": [], "jobs": []}', headers=headers), 400, "INVALID_FIELD")
    kept = sickbay.api.post("/jobs", content='{"jobType": "ok", "payload": {"a": 1, "a": 2}}', headers=headers)
    assert kept.status_code == 202


def test_a_compressed_body_is_told_so(sickbay: Clients):
    """It is no JSON that went wrong."""
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    message = assert_refused(
        sickbay.api.post("/jobs", content=gzip.compress(json.dumps(GOOD).encode()), headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE"
    )
    assert "gzip" in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/unknown"),
        ("POST", "/jobs/unknown/cancel"),
        ("GET", "/jobs/unknown/events"),
        ("GET", "/quarantine/unknown"),
        ("POST", "/quarantine/unknown/resubmit"),
        ("POST", "/quarantine/unknown/discard"),
    ],
)
def test_an_unknown_id_is_404(method: str, path: str, sickbay: Clients):
    door = sickbay.plane if path.startswith("/quarantine") else sickbay.api
    assert_refused(door.request(method, path), 404, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/jobs?pageSize=1001", "INVALID_FIELD"),
        ("/jobs?pageSize=-1", "INVALID_FIELD"),
        ("/jobs?pageSize=many", "INVALID_FIELD"),
        ("/jobs?state=SLEEPING", "INVALID_FIELD"),
        ("/jobs?jobType=E+Mail", "INVALID_JOB_TYPE"),
        ("/jobs?size=7", "INVALID_FIELD"),
        ("/jobs?pageToken=nonsense", "INVALID_PAGE_TOKEN"),
        ("/jobs?pageToken=%00%ff", "INVALID_PAGE_TOKEN"),
        ("/jobs/" + "x" * 65, "INVALID_FIELD"),
        ("/jobs/a%0Ab", "INVALID_FIELD"),
        ("/quarantine?state=SLEEPING", "INVALID_FIELD"),
        ("/quarantine?reason=BAD_LUCK", "INVALID_FIELD"),
        ("/quarantine?errorCode=low", "INVALID_FIELD"),
        ("/quarantine?pageToken=nonsense", "INVALID_PAGE_TOKEN"),
        ("/quarantine?limit=7", "INVALID_FIELD"),
        ("/quarantine?minAgeSeconds=soon", "INVALID_FIELD"),
        ("/quarantine/groups?pageSize=0.5", "INVALID_FIELD"),
        ("/breakers/E%20Mail", "INVALID_JOB_TYPE"),
        ("/breakers?tenant=A/B", "INVALID_FIELD"),
        ("/breakers/events?jobType=E+Mail", "INVALID_JOB_TYPE"),
        ("/jobs?jobType=a&jobType=b", "INVALID_FIELD"),
        ("/jobs?pageSize=1" + "0" * 5000, "INVALID_FIELD"),
        ("/quarantine?minAgeSeconds=1" + "0" * 30, "INVALID_FIELD"),
        ("/jobs/%ff", "INVALID_FIELD"),
        ("/incidents?open=maybe", "INVALID_FIELD"),
        ("/incidents?jobType=E+Mail", "INVALID_JOB_TYPE"),
        ("/incidents?pageToken=made-up", "INVALID_PAGE_TOKEN"),
        ("/breakers/%c3%28", "INVALID_FIELD"),
    ],
)
def test_a_wrong_question_is_400(path: str, reason: str, sickbay: Clients):
    door = sickbay.api if path.startswith("/jobs") else sickbay.plane
    assert_refused(door.get(path), 400, reason)


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("force-open", {"seconds": 0}),
        ("force-open", {"seconds": -1}),
        ("force-open", {"seconds": 1e300}),
        ("force-open", {"seconds": "soon"}),
        ("force-open", {"until": 7}),
        ("force-open", {"why": "x" * 501}),
        ("disable", {"by": "x" * 129}),
        ("disable", {"seconds": 5}),
        ("metrics-only", {"by": "two\nlines"}),
        ("metrics-only", []),
    ],
)
def test_a_wrong_command_is_400_and_changes_nothing(action: str, body: Any, sickbay: Clients):
    assert_refused(sickbay.plane.post(f"/breakers/never-commanded/{action}", json=body), 400, "INVALID_FIELD")
    assert sickbay.plane.get("/breakers/never-commanded").status_code == 404


def test_a_page_token_belongs_to_its_query(sickbay: Clients):
    sickbay.wait_all(sickbay.submit_all("listed", {}, {}), "SUCCEEDED")
    page = sickbay.jobs_of("listed", pageSize=1)
    assert_refused(sickbay.api.get("/jobs", params={"jobType": "ok", "pageToken": page["nextPageToken"]}), 400, "INVALID_PAGE_TOKEN")
    assert_refused(sickbay.plane.get("/quarantine", params={"pageToken": page["nextPageToken"]}), 400, "INVALID_PAGE_TOKEN")


def test_unknown_routes_and_methods_are_told_so(sickbay: Clients):
    assert_refused(sickbay.api.get("/nothing"), 404, "NOT_FOUND")
    assert_refused(sickbay.api.delete("/jobs"), 405, "METHOD_NOT_ALLOWED")
    assert_refused(sickbay.plane.put("/breakers"), 405, "METHOD_NOT_ALLOWED")
    assert_refused(sickbay.plane.post("/breakers/email/reset?tennant=a"), 400, "INVALID_FIELD")


def test_every_route_names_its_methods_and_answers_head(sickbay: Clients):
    """As /openapi.json has them, HEAD where GET is."""
    for door in (sickbay.api, sickbay.worker, sickbay.plane):
        for path, operations in door.get("/openapi.json").json()["paths"].items():
            known = {method.upper() for method in operations} | {"OPTIONS"} | ({"HEAD"} if "get" in operations else set())
            place = path.format(jobType="never-seen", jobId="unknown", incidentId="unknown", scheduleId="unknown")
            wrong = door.request("PUT" if "PATCH" in known else "PATCH", place)
            assert_refused(wrong, 405, "METHOD_NOT_ALLOWED")
            told = door.options(place)
            assert (told.status_code, told.content) == (204, b"")
            # A path that a pattern matches, too, has the methods of both.
            assert known <= set(wrong.headers["allow"].split(", ")) == set(told.headers["allow"].split(", "))
            if "get" in operations and not path.endswith("/events"):
                assert door.head(place).status_code == door.get(place).status_code
                assert door.head(place).content == b""
