"""Web pages of other origins: those that are named may call with a token, and nobody else gets anything new."""

import logging

import pytest

from tests.support.guarded_service import bearer, doors

APP, EVIL = "https://app.example.com", "https://evil.example"
JOB = {"jobType": "a", "payload": {}}
ASK = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
CROSS = {"sec-fetch-site": "cross-site"}


def cors(answer):
    return {name for name in answer.headers if name.startswith("access-control-")}


@pytest.fixture
async def door():
    async with doors(origins=[APP]) as found:
        yield found


async def test_a_preflight_of_a_named_origin_gets_permission_without_a_credential(door):
    answer = await door.rest.options("/jobs", headers={"origin": APP, **ASK})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == APP
    assert {"POST", "GET"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert allowed == {"authorization", "content-type", "idempotency-key", "last-event-id"}
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers
    assert (await door.rest.options("/jobs", headers={"origin": APP})).status_code == 401  # no preflight


@pytest.mark.parametrize("origin", [EVIL, "null", "http://app.example.com", APP + ":8443", APP + ".evil.example", APP + ", " + EVIL, ""])
async def test_other_origins_get_nothing(door, origin):
    asked = await door.rest.options("/jobs", headers={"origin": origin, **ASK})
    changed = await door.rest.post("/jobs", json=JOB, headers={"origin": origin, **CROSS, **bearer("shop")})
    read = await door.rest.get("/jobs/a", headers={"origin": origin, **bearer("shop")})
    assert (asked.status_code, changed.status_code, read.status_code) == (401, 403, 200)
    for answer in (asked, changed, read):
        assert cors(answer) == set()
        assert "origin" in answer.headers["vary"].lower()  # or a cache could give it to the page that may


async def test_a_page_of_a_named_origin_calls_and_reads_also_errors_and_events(door):
    page = {"origin": APP, **CROSS}
    taken = await door.rest.post("/jobs", json=JOB, headers=page | bearer("shop"))
    refused = await door.rest.post("/jobs", json=JOB, headers=page | {"cookie": "authorization=Bearer shop"})
    unknown = await door.rest.get("/nothing", headers=page | bearer("shop"))
    text = await door.rest.post("/jobs", content="{}", headers=page | bearer("shop") | {"content-type": "text/plain"})
    assert (taken.status_code, refused.status_code, unknown.status_code, text.status_code) == (202, 401, 404, 415)
    async with door.rest.stream("GET", "/jobs/wait/events", headers=page | bearer("shop")) as events:
        for answer in (taken, refused, unknown, text, events):
            assert answer.headers["access-control-allow-origin"] == APP
            assert "access-control-allow-credentials" not in answer.headers


async def test_without_origins_there_is_no_cors_header():
    async with doors() as door:
        for answer in (
            await door.rest.options("/jobs", headers={"origin": APP, **ASK}),
            await door.rest.get("/jobs/a", headers={"origin": APP} | bearer("shop")),
        ):
            assert cors(answer) == set()
            assert "vary" not in answer.headers


@pytest.mark.parametrize(("is_guarded", "count"), [(True, 0), (False, 1)])
async def test_pages_that_may_call_without_access_control_are_told_of_at_the_start(is_guarded, count, caplog):
    caplog.set_level(logging.WARNING)
    async with doors(origins=[APP], is_guarded=is_guarded):
        told = [record.getMessage() for record in caplog.records if "CORS_ORIGINS" in record.getMessage()]
    assert len(told) == count
    assert all(APP in line and "AUTH=required" in line for line in told)


@pytest.mark.parametrize(("is_guarded", "security"), [(True, [{"bearer": []}]), (False, [{}, {"bearer": []}])])
async def test_the_document_says_what_a_caller_needs(is_guarded, security):
    async with doors(is_guarded=is_guarded) as door:
        document = (await door.rest.get("/openapi.json", headers=bearer("shop"))).json()
    assert document["security"] == security
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_health = path.startswith("/health")
            assert ({"401", "403"} <= set(operation["responses"])) is not is_health
            assert (operation.get("security") == []) is is_health
