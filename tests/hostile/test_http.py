"""Attacks on the HTTP ports of a running product: each is bounded in memory and time, told in a metric, and unnoticed by others."""

from __future__ import annotations

import io
import json
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack
from itertools import chain, repeat

import httpx
import pytest

from benchmarks import http_attacks as attacks
from tests.hostile.conftest import StartPatient
from tests.support.hostile_env import Patient
from tests.support.plain_http import NO_TLS
from tests.support.waiting import until

MIB = 1024 * 1024
PATIENCE_S = 60.0
MALFORMED = "malformed HTTP, or HTTP that two servers could parse differently"


def test_a_connection_that_pipelines_and_never_reads_costs_little_and_is_cut_off(patient: Patient) -> None:
    seen = attacks.pipelining(patient.ports, PATIENCE_S, 64, b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert seen["closed"] == 1, seen
    assert patient.refused() == {"unread": 1}
    assert patient.grown_mb < 40


@pytest.mark.parametrize("attack", [attacks.many_headers, attacks.long_header, attacks.long_extension, attacks.long_trailer])
def test_headers_and_what_is_like_them_are_refused_before_they_cost_anything(patient: Patient, attack: attacks.Attack) -> None:
    assert attack(patient.ports, PATIENCE_S, 100)["HTTP 431"] == 1
    assert patient.refused() == {"header_size": 1}
    assert patient.grown_mb < 40


def test_a_url_without_end_is_refused(patient: Patient) -> None:
    assert attacks.long_url(patient.ports, PATIENCE_S, 100)["HTTP 414"] == 1
    assert patient.refused() == {"header_size": 1}
    assert patient.grown_mb < 40


def test_tiny_chunks_leave_others_their_turn(patient: Patient) -> None:
    assert attacks.tiny_chunks(patient.ports, PATIENCE_S, 8)["HTTP 400"] == 1
    assert patient.grown_mb < 60


def test_withheld_bodies_make_room_for_an_honest_one(attacked: StartPatient) -> None:
    patient = attacked(HTTP_BODY_TIMEOUT="60", HTTP_BODY_BUFFER_BYTES=str(64 * MIB))
    size = 16 * MIB
    begin = b"POST /jobs:batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    words = (chain([begin], repeat(b" " * (MIB // 4), 63)) for _ in range(12))
    lines = [attacks.Line(patient.ports["Job API"][0], one) for one in words]
    attacks.drive(lines, lambda: sum(line.closed for line in lines) >= 4, PATIENCE_S)
    batch = {"jobs": [{"jobType": "ok", "payload": {"text": "x" * 60_000}} for _ in range(200)]}
    answer = httpx.post(patient.url("Job API", "/jobs:batch"), json=batch, timeout=PATIENCE_S, trust_env=False, verify=NO_TLS)
    assert answer.status_code == 202, answer.text
    assert patient.refused()["body_room"] >= 4
    assert patient.grown_mb < 400
    attacks.hang_up(lines)


@pytest.mark.parametrize(
    ("attack", "reason", "status"),
    [
        (attacks.slow_headers, "header_timeout", 408),
        (attacks.slow_bodies, "body_timeout", 408),
    ],
)
def test_slow_requests_end(patient: Patient, attack: attacks.Attack, reason: str, status: int) -> None:
    seen = attack(patient.ports, PATIENCE_S, 100)
    assert (seen[f"HTTP {status}"], seen["closed"]) == (100, 100)
    assert patient.refused() == {reason: 100}


def test_silent_connections_end(patient: Patient) -> None:
    seen = attacks.silent(patient.ports, PATIENCE_S, 100)
    assert seen["closed"] == 300
    assert [patient.refused(service) for service in patient.ports] == [{"silent": 100}] * 3


def test_silent_connections_take_no_places_from_others(attacked: StartPatient) -> None:
    patient = attacked(HTTP_HEADER_TIMEOUT="600", HTTP_MAX_CONNECTIONS="250")
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", patient.ports["Job API"][0])))
        until(lambda: patient.refused().get("oldest", 0) >= 50)
        assert httpx.get(patient.url("Job API", "/health"), trust_env=False, verify=NO_TLS).status_code == 200


def test_a_peer_with_too_many_streams_is_told_and_health_is_answered(attacked: StartPatient) -> None:
    patient = attacked(HTTP_MAX_CONNECTIONS_PER_PEER="5")
    events = patient.url("Control plane", "/breakers/events")
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(trust_env=False, timeout=PATIENCE_S, verify=NO_TLS))
        for _ in range(5):
            assert stack.enter_context(client.stream("GET", events)).status_code == 200
        answer = client.get(patient.url("Control plane", "/breakers"))
        assert (answer.status_code, answer.json()["statusCode"], answer.headers["retry-after"]) == (503, 503, "1")
        assert client.get(patient.url("Control plane", "/health")).status_code == 200
    until(lambda: httpx.get(patient.url("Control plane", "/breakers"), trust_env=False, verify=NO_TLS).status_code == 200)
    assert patient.refused("Control plane")["peer_connections"] >= 1


def test_malformed_requests_are_counted_and_told_in_one_line(patient: Patient) -> None:
    assert attacks.garbage(patient.ports, PATIENCE_S, 300)["HTTP 400"] == 300
    assert patient.refused() == {"malformed": 300}
    patient.product.logged(MALFORMED)
    assert len([line for line in patient.product.err.text.splitlines() if MALFORMED in line]) == 1
    assert "Invalid HTTP request" not in patient.product.err.text


@pytest.mark.parametrize("mib", [2, 8, 16])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_writes_before_it_reads_sees_the_413(patient: Patient, mib: int, *, chunked: bool) -> None:
    body = b" " * mib * MIB
    request = urllib.request.Request(  # noqa: S310
        patient.url("Job API", "/jobs"), io.BytesIO(body) if chunked else body, {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=PATIENCE_S)  # noqa: S310
    with caught.value as answer:
        assert (answer.code, json.load(answer)["reason"]) == (413, "PAYLOAD_TOO_LARGE")
