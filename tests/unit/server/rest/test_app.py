"""The REST factory: errors in one form, bodies, documentation without internet."""

import json
import re
from typing import Annotated

import grpc
import httpx
import msgspec
import pytest
from fastapi import Query, Request
from starlette.exceptions import HTTPException

from sickbay.contract.faults import Fault
from sickbay.domain import errors
from sickbay.domain.errors import ErrorReason
from sickbay.server.errors import rich_status
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.rest.body import MAX_BODY_BYTES, Body, read_body, text
from sickbay.server.rest.errors import STATUSES, fault_response, http_status


class Item(Body):
    job_type: str = ""
    payload: msgspec.Raw = msgspec.Raw()


class Batch(Body):
    reason: str
    jobs: list[Item] = msgspec.field(default_factory=list)


def _raised(code, message="m", reason="", retry_after=None):
    status = rich_status(Fault(code, message, reason, retry_after))
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), status.details)


def _app():
    app = create_app("Test API", "for tests", "1.2.3")

    @app.post("/jobs")
    async def submit(request: Request):
        body = await read_body(request, Item)
        return json_response({"jobType": body.job_type, "payload": text(body.payload)}, 202)

    @app.post("/batch")
    async def batch(request: Request):
        body = await read_body(request, Batch, 100)
        return json_response(len(body.jobs))

    @app.get("/list")
    async def listing(page_size: Annotated[int, Query(alias="pageSize")] = 50):
        return json_response(page_size)

    @app.get("/raise/{what}")
    async def raising(what: str):
        raise {
            "bug": ValueError("secret"),
            "rpc": _raised(grpc.StatusCode.NOT_FOUND, "no such job", "JOB_NOT_FOUND"),
            "rpc-bug": _raised(grpc.StatusCode.UNKNOWN, "secret"),
            "busy": _raised(grpc.StatusCode.UNAVAILABLE, "later", "BACKEND_UNAVAILABLE", 2.1),
            "domain": errors.FailedPrecondition("not now"),
            "base": errors.SickbayError("secret"),
            "http": HTTPException(418, "a teapot", {"x-pot": "1"}),
        }[what]

    return app


@pytest.fixture
async def client():
    transport = httpx.ASGITransport(_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers={"content-type": "application/json"}) as client:
        yield client


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "", 400),
        (grpc.StatusCode.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE", 413),
        (grpc.StatusCode.UNAUTHENTICATED, "", 401),
        (grpc.StatusCode.PERMISSION_DENIED, "", 403),
        (grpc.StatusCode.NOT_FOUND, "", 404),
        (grpc.StatusCode.ALREADY_EXISTS, "", 409),
        (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", 422),
        (grpc.StatusCode.ABORTED, "ETAG_MISMATCH", 409),
        (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE", 409),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", 429),
        (grpc.StatusCode.UNIMPLEMENTED, "", 501),
        (grpc.StatusCode.UNAVAILABLE, "", 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", 504),
        *((code, "", 500) for code in grpc.StatusCode if code not in STATUSES),
    ],
)
def test_codes(code, reason, status):
    fault = Fault(code, "m", reason)
    assert http_status(fault) == status
    response = fault_response(fault)
    body = json.loads(response.body)
    assert response.status_code == body["statusCode"] == status
    assert body.keys() == {"statusCode", "message", "reason"}
    assert (body["message"] == "m") == (status != 500)
    assert ("retry-after" in response.headers) == (status in {429, 503})


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/raise/rpc", (404, "no such job", "JOB_NOT_FOUND"), {}),
        ("/raise/busy", (503, "later", "BACKEND_UNAVAILABLE"), {"retry-after": "3"}),
        ("/raise/domain", (409, "not now", "WRONG_STATE"), {}),
        ("/raise/bug", (500, "internal error; see the service's log", "INTERNAL"), {}),
        ("/raise/rpc-bug", (500, "internal error; see the service's log", "INTERNAL"), {}),
        ("/raise/base", (500, "internal error; see the service's log", "INTERNAL"), {}),
        ("/raise/http", (418, "a teapot", "IM_A_TEAPOT"), {"x-pot": "1"}),
        ("/nowhere", (404, "there is nothing at GET /nowhere; see /docs for the routes", "NOT_FOUND"), {}),
        ("/jobs/", (404, "there is nothing at GET /jobs/; see /docs for the routes", "NOT_FOUND"), {}),
        ("/static-offline-docs/x", (404, "there is nothing at GET /static-offline-docs/x; see /docs for the routes", "NOT_FOUND"), {}),
        ("/jobs", (405, "/jobs does not support the method GET; see /docs", "METHOD_NOT_ALLOWED"), {"allow": "OPTIONS, POST"}),
    ],
)
async def test_every_error_has_the_one_form(client, path, body, headers):
    response = await client.get(path)
    assert response.headers["content-type"] == "application/json"
    assert response.json() == dict(zip(("statusCode", "message", "reason"), body, strict=True))
    assert response.status_code == body[0]
    assert headers.items() <= dict(response.headers).items()
    assert "secret" not in response.text


async def test_a_bad_query_parameter_is_named(client):
    response = await client.get("/list?pageSize=many")
    assert response.status_code == 400
    assert response.json()["reason"] == "INVALID_FIELD"
    assert response.json()["message"].startswith("pageSize: ")
    assert (await client.get("/list?pageSize=7")).json() == 7


async def test_payloads_pass_byte_for_byte(client):
    payload = '{ "big": 12345678901234567890, "é": [1.0,  2]}'
    response = await client.post("/jobs", content=f'{{"jobType": "email", "payload": {payload}}}'.encode())
    assert (response.status_code, response.json()) == (202, {"jobType": "email", "payload": payload})


async def test_an_empty_body_is_an_empty_object(client):
    assert (await client.post("/jobs")).json() == {"jobType": "", "payload": ""}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"jobType": "a", "jobType": "b"}', "duplicate field 'jobType'; send it once"),
        (b'{"jobType": "a", "\\u006aobType": "a"}', "duplicate field 'jobType'; send it once"),
        (b"nope", r"the body is not valid JSON \(byte \d\)"),
        (b'{"jobType":', "the body is not valid JSON"),
        (b"[]", "the body must be a JSON object: expected object, got array"),
        (b'"x"', "the body must be a JSON object: expected object, got str"),
        (b'{"jobType": 5}', "jobType: expected str, got int"),
        (b'{"jobtype": "email"}', "unknown field 'jobtype'; did you mean jobType[?]"),
        (b'{"job_type": "email"}', "unknown field 'job_type'; did you mean jobType[?]"),
        (b'{"zzz": 1}', "unknown field 'zzz'; known are jobType, payload"),
        (b'{"jobType": "\xff"}', "the body is not UTF-8"),
        (b'{"payload": {"a": "\xff"}}', "the body is not UTF-8"),
        (b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "the body is nested too deep"),
        (b"[" * 500_000, "the body (is nested too deep|must be a JSON object.*)"),
    ],
)
async def test_bad_bodies_are_refused_with_advice(client, body, message):
    response = await client.post("/jobs", content=body)
    assert response.status_code == response.json()["statusCode"] == 400
    assert re.fullmatch(message, response.json()["message"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"jobs": []}', "reason is missing"),
        (b'{"reason": "", "jobs": [{"payloads": 1}]}', "unknown field 'payloads'; did you mean payload?"),
        (b'{"reason": "", "jobs": [{"jobType": 1}]}', "jobs[0].jobType: expected str, got int"),
        (b'{"reason": "", "jobs": [{}, 1]}', "jobs[1]: expected object, got int"),
    ],
)
async def test_errors_inside_lists_are_located(client, body, message):
    response = await client.post("/batch", content=body)
    assert response.json()["message"] == message


async def test_a_body_over_the_limit_is_413_announced_or_not(client):
    async def chunks():
        for _ in range(MAX_BODY_BYTES // 1000 + 1):
            yield b" " * 1000

    for content in (b" " * (MAX_BODY_BYTES + 1), chunks()):
        response = await client.post("/jobs", content=content)
        assert (response.status_code, response.json()["reason"]) == (413, ErrorReason.PAYLOAD_TOO_LARGE)
    assert (await client.post("/batch", content=b" " * 101)).status_code == 413


async def test_a_payload_of_one_mebibyte_fits(client):
    payload = b'{"a":"' + b"x" * (1024 * 1024 - 8) + b'"}'
    assert (await client.post("/jobs", content=b'{"jobType":"email","payload":' + payload + b"}")).status_code == 202


async def test_the_documentation_refers_to_no_other_host(client):
    page = (await client.get("/docs")).text
    assert "swagger-ui-bundle.js" in page
    assert "http://" not in page
    assert "https://" not in page
    assert '"validatorUrl": null' in page
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (await client.get(asset)).status_code == 200
    specification = (await client.get("/openapi.json")).json()
    assert specification["info"] == {"title": "Test API", "description": "for tests", "version": "1.2.3"}
    assert (await client.get("/redoc")).status_code == 404
