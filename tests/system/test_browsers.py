"""What a page of somebody else can have a browser send is refused by the running product, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product

EVIL = "http://evil.example"
JOB = json.dumps({"jobType": "ok", "payload": {}})
JSON = {"content-type": "application/json"}


def post(sickbay: Clients, headers: Mapping[str, str], content: str = JOB, path: str = "/jobs") -> httpx.Response:
    """Without the header that the client would add by itself."""
    request = sickbay.api.build_request("POST", path, content=content, headers=headers)
    return sickbay.api.send(request)


def told(answer: httpx.Response) -> str:
    body: dict[str, Any] = answer.json()
    assert body["statusCode"] == answer.status_code
    assert [name for name in answer.headers if name.startswith("access-control-")] == []
    return str(body["message"])


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": EVIL, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://localhost:1"},
    ],
)
def test_a_page_of_another_origin_changes_nothing(headers: dict[str, str], sickbay: Clients):
    """Whatever it sends: a job, a command with a body and one without."""
    assert "web page" in told(post(sickbay, headers | JSON))
    assert post(sickbay, headers | JSON).status_code == 403
    sickbay.wait(sickbay.submit("browsed"), "SUCCEEDED")
    for action in ("force-open", "disable", "metrics-only", "reset", "auto"):
        assert sickbay.plane.post(f"/breakers/browsed/{action}", headers=headers).status_code == 403
    assert sickbay.breaker("browsed")["state"] == "CLOSED"
    assert sickbay.plane.post("/quarantine/any/discard", headers=headers).status_code == 403
    assert sickbay.plane.post("/jobs:requeue", headers=headers).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None])
def test_a_body_that_needs_no_preflight_is_not_read(kind: str | None, sickbay: Clients):
    """Old browsers send no Origin with a form; the type of its body gives it away."""
    headers = {} if kind is None else {"content-type": kind}
    answer = post(sickbay, headers)
    assert answer.status_code == 415
    assert "Content-Type: application/json" in told(answer)
    assert sickbay.plane.post("/breakers/never-browsed/force-open", content=b"{}", headers=headers).status_code == 415


def test_our_own_pages_and_programs_are_served(sickbay: Clients):
    own = f"http://{sickbay.api.base_url.netloc.decode()}"
    for headers in ({}, {"origin": own}, {"origin": own, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert post(sickbay, headers | JSON).status_code == 202


def test_what_is_read_is_for_this_origin_alone(sickbay: Clients):
    """No header lets a page of another origin read an answer, or use it as a script, an image or a frame."""
    for path in ("/jobs", "/docs", "/metrics", "/openapi.json", "/nothing"):
        answer = sickbay.api.get(path, headers={"origin": EVIL})
        assert [name for name in answer.headers if name.startswith("access-control-")] == []
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.embedded
@pytest.mark.parametrize("path", ["/jobs", "/health", "/docs", "/jobs/any/events"])
def test_on_loopback_another_name_reads_nothing(path: str, sickbay: Clients):
    """DNS rebinding: the page's own name has come to mean this machine."""
    answer = sickbay.api.get(path, headers={"host": "evil.example:3000"})
    assert answer.status_code == 421
    assert "ALLOWED_HOSTS" in told(answer)
    for host in ("localhost", "localhost:3000", "127.0.0.1:9", "[::1]:3000", "127.8.8.8"):
        assert sickbay.api.get("/health", headers={"host": host}).status_code == 200


OPEN = ("--host", "0.0.0.0")  # noqa: S104 - as in a container
NAMED = {"ALLOWED_HOSTS": "jobs.example.com,.internal"}


@pytest.mark.parametrize(
    ("options", "env", "served", "refused"),
    [
        ((), NAMED, ["jobs.example.com", "a.internal", "localhost"], ["evil.example", "10.0.0.1"]),
        (OPEN, {}, ["jobs.example.com", "evil.example"], []),
        (OPEN, NAMED, ["jobs.example.com", "localhost", "10.0.0.1"], ["evil.example"]),
    ],
)
def test_names_follow_the_setting(options, env, served, refused, own_clinic: Clinic, start: Callable[..., Product]):  # noqa: PLR0917 - a table
    """On loopback it adds names; elsewhere it bounds them, but for addresses, by which probes and scrapes come."""
    with Clients(start(own_clinic.folder, {"JOB_HANDLERS": "clinic_handlers", **env}, options).ready()) as sickbay:
        for door in (sickbay.api, sickbay.worker, sickbay.plane):
            assert [door.get("/health", headers={"host": host}).status_code for host in served] == [200] * len(served)
            assert [door.get("/health", headers={"host": host}).status_code for host in refused] == [421] * len(refused)
