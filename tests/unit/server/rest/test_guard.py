"""What stands before every route: seals, HEAD and OPTIONS, names in paths, parameters, hosts, and the policy of the page."""

import base64
import hashlib
import re
from typing import Annotated
from urllib.parse import quote

import httpx
import pytest
from fastapi import Query

from sickbay.domain import errors
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.rest.guard import Name, allow_hosts
from sickbay.system.hostnames import hosts_for


def _app():
    app = create_app("Test API", "for tests", "1.2.3")

    @app.post("/jobs")
    async def submit():
        return json_response("taken", 202)

    @app.get("/list")
    async def listing(page_size: Annotated[int, Query(alias="pageSize")] = 50):
        return json_response(page_size)

    @app.get("/two")
    @app.post("/two")
    async def two(tenant: str = ""):
        return json_response(tenant)

    @app.get("/many")
    async def many(state: Annotated[list[str], Query()] = []):  # noqa: B006 - FastAPI copies it
        return json_response(state)

    @app.get("/named/{name}")
    async def name_of(name: Name):
        return json_response(name)

    @app.get("/missing")
    async def missing():
        raise errors.NotFound("no such job")

    @app.get("/bug")
    async def bug():
        raise ValueError("secret")

    return app


@pytest.fixture
async def client():
    transport = httpx.ASGITransport(_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_the_documentation_runs_its_own_scripts_only(client):
    page = await client.get("/docs")
    policy = page.headers["content-security-policy"]
    (script,) = re.findall(rb"<script>(.*?)</script>", page.content, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert (await client.get("/static-offline-docs/swagger-ui.css")).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/list", "/missing", "/bug", "/nowhere", "/docs", "/openapi.json", "/static-offline-docs/favicon.png"])
async def test_every_answer_is_sealed_and_says_nothing_to_other_origins(client, path):
    answer = await client.get(path, headers={"origin": "http://evil.example"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert [name for name in answer.headers if name.startswith("access-control-")] == []


async def test_head_is_get_without_its_body(client):
    for path in ("/list", "/docs", "/missing", "/nowhere", "/static-offline-docs/favicon.png"):
        get, head = await client.get(path), await client.head(path)
        assert head.content == b""
        assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/two", "GET, HEAD, OPTIONS, POST"), ("/jobs", "OPTIONS, POST"), ("/list", "GET, HEAD, OPTIONS"), ("/docs", "GET, HEAD, OPTIONS")],
)
async def test_a_path_names_all_its_methods_and_gives_a_preflight_no_permission(client, path, methods):
    wrong = await client.delete(path)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, methods)
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    preflight = await client.options(path, headers=asked)
    assert (preflight.status_code, preflight.headers["allow"], preflight.content) == (204, methods, b"")
    assert [name for name in preflight.headers if name.startswith("access-control-")] == []
    assert (await client.options("/nowhere")).status_code == 404


@pytest.mark.parametrize("name", ["a", "a/b", "a%b", "a%2Fb", "..a", "é", "a b?c#d"])
async def test_a_name_in_a_path_may_hold_anything(client, name):
    assert (await client.get(f"/named/{quote(name, safe='')}")).json() == name


async def test_a_path_that_is_no_utf8_is_refused(client):
    answer = await client.get("/named/%ff")
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_FIELD")


async def test_a_parameter_given_twice_is_refused_and_an_unknown_one_where_something_changes(client):
    twice = await client.get("/list?pageSize=1&pageSize=2")
    assert (twice.status_code, twice.json()["message"]) == (400, "the parameter 'pageSize' is given 2 times; give it once")
    assert (await client.get("/many?state=a&state=b")).json() == ["a", "b"]
    assert (await client.get("/list?other=1&other=2")).status_code == 200
    unknown = await client.post("/two?tennant=a")
    assert (unknown.status_code, unknown.json()["message"]) == (400, "unknown parameter 'tennant'; known are tenant")
    assert (await client.post("/two?tenant=a")).status_code == 200


async def test_hosts_that_are_not_ours_are_misdirected():
    app = _app()
    allow_hosts(app, hosts_for("127.0.0.1", on_loopback=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:3000") as client:
        assert (await client.get("/list")).status_code == 200
        refused = await client.get("/list", headers={"host": "evil.example:3000"})
    assert (refused.status_code, refused.json()["reason"]) == (421, "MISDIRECTED_REQUEST")
    assert "ALLOWED_HOSTS" in refused.json()["message"]
