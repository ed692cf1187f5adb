"""What HTTP clients raise when a real server answers badly, slowly or not at all."""

import urllib.error
import urllib.request

import aiohttp
import httpx
import pytest
import requests

from sickbay.domain.outcome import OutcomeKind
from tests.support.canned_services import closed_port, hang_up, http, outcome_of, served, silence

SYSTEMIC, TRANSIENT, DATA = OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.DATA


async def by_httpx(url):
    async with httpx.AsyncClient(timeout=0.2) as client:
        (await client.get(url)).raise_for_status()


async def by_requests(url):
    requests.get(url, timeout=0.2).raise_for_status()


async def by_aiohttp(url):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2), raise_for_status=True) as session:
        await session.get(url)


async def by_urllib(url):
    with urllib.request.urlopen(url, timeout=0.2) as answer:  # noqa: S310 - our own server
        answer.read()


HTTP = [by_httpx, by_requests, by_aiohttp, by_urllib]


@pytest.mark.parametrize("client", HTTP)
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "BAD_REQUEST", DATA),
        (401, "HTTP_401", DATA),
        (404, "NOT_FOUND", DATA),
        (422, "VALIDATION_ERROR", DATA),
        (429, "RATE_LIMITED", TRANSIENT),
        (500, "HTTP_500", SYSTEMIC),
        (503, "SERVICE_UNAVAILABLE", SYSTEMIC),
        (550, "HTTP_550", SYSTEMIC),
    ],
)
async def test_an_http_answer_is_its_status(client, status, code, kind):
    """Whatever the library."""
    with served(http(status)) as port:
        outcome = await outcome_of(client(f"http://127.0.0.1:{port}/"))
    assert (outcome.code, outcome.kind) == (code, kind)


@pytest.mark.parametrize("client", HTTP)
@pytest.mark.parametrize(
    ("headers", "ms"),
    [
        (["Retry-After: 7"], 7_000),
        (["Retry-After: Wed, 21 Oct 2026 07:28:30 GMT", "Date: Wed, 21 Oct 2026 07:28:00 GMT"], 30_000),
        (["Retry-After: soon"], None),
    ],
)
async def test_an_http_answer_says_when_to_come_again(client, headers, ms):
    """In seconds, or as a date by the server's own clock."""
    with served(http(503, *headers)) as port:
        outcome = await outcome_of(client(f"http://127.0.0.1:{port}/"))
    assert outcome.retry_after_ms == ms


@pytest.mark.parametrize("client", HTTP)
async def test_a_server_that_is_not_there_refuses_the_connection(client):
    """Each library says it in its own way."""
    outcome = await outcome_of(client(f"http://127.0.0.1:{closed_port()}/"))
    assert (outcome.code, outcome.kind) == ("CONNECTION_REFUSED", SYSTEMIC)


@pytest.mark.parametrize("client", HTTP)
async def test_a_server_that_says_nothing_is_a_timeout(client):
    """Of the client's own, not of the handler."""
    with served(silence) as port:
        outcome = await outcome_of(client(f"http://127.0.0.1:{port}/"))
    assert (outcome.code, outcome.kind) == ("API_TIMEOUT", SYSTEMIC)


@pytest.mark.parametrize("client", HTTP)
async def test_a_server_that_hangs_up_is_the_networks_trouble(client):
    """It may be there again at once."""
    with served(hang_up) as port:
        outcome = await outcome_of(client(f"http://127.0.0.1:{port}/"))
    assert (outcome.code, outcome.kind) == ("NETWORK_ERROR", TRANSIENT)


@pytest.mark.parametrize("client", HTTP)
async def test_an_address_that_is_none_is_this_jobs(client):
    """It comes of a payload."""
    outcome = await outcome_of(client("no address"))
    assert outcome.kind is DATA
