"""What web pages of others may have sent is refused, what programs and our own pages send is not."""

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.server.rest.request_policy import SAFE, RequestHeaders, find_refusal
from sickbay.system.hostnames import EVERY_HOST, hosts_for

JSON = {"content-type": "application/json", "content-length": "2"}


def status(method="POST", hosts=EVERY_HOST, version="1.1", host="localhost:3000", **headers):
    sent = ({"host": host} if host is not None else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = find_refusal(method, version, RequestHeaders((name.encode(), value.encode()) for name, value in sent.items()), hosts)
    return refusal and refusal.status


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"origin": "http://localhost:3000"},
        {"origin": "https://LOCALHOST:3000"},
        {"origin": "http://10.0.0.1:3000", "host": "10.0.0.1:3000"},
        {"origin": "https://jobs.example.com", "host": "jobs.example.com"},
        {"origin": "https://jobs.example.com", "host": "jobs.example.com:443"},
        {"origin": "http://[::1]:3000", "host": "[::1]:3000"},
        {"origin": "https://jobs.example.com", "sec_fetch_site": "same-origin", "host": "job-api:3000"},
    ],
)
def test_programs_and_pages_of_this_address_may_change_something(headers):
    assert status(**headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:3001"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://localhost"},
        {"origin": "file://localhost:3000"},
        {"origin": "localhost:3000"},
        {"origin": "http://localhost:3000, http://evil.example"},
        {"origin": "http://localhost:3000.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "same-site", "origin": "http://localhost:3000"},
        {"sec_fetch_site": "anything else"},
        {"sec_fetch_site": ""},
    ],
)
def test_pages_of_others_may_not(headers):
    assert status(**headers) is HTTPStatus.FORBIDDEN
    assert status(**headers, content_type="application/json", content_length="2") is HTTPStatus.FORBIDDEN
    assert status("DELETE", **headers) is HTTPStatus.FORBIDDEN
    assert all(status(method, **headers) is None for method in SAFE)


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json"]
)
def test_a_body_that_says_it_is_json_is_read(kind):
    assert status(content_type=kind, content_length="2") is None
    assert status(content_type=kind, transfer_encoding="chunked") is None
    assert status(content_type=kind, content_length="2", content_encoding="identity") is None


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "text/plain; application/json",
        "text/plain, application/json",
        "application/json, text/plain",
        "text/x+json",
        "application/json+",
        "",
        None,
    ],
)
def test_a_body_of_another_type_is_not(kind):
    """None of those that a browser sends without a preflight is among what is read; see CORS-safelisted request headers."""
    headers = {} if kind is None else {"content_type": kind}
    assert status(**headers, content_length="2") is HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert status(**headers, transfer_encoding="chunked") is HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert status(**headers, content_length="0") is None
    assert status(**headers) is None


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "identity, gzip", "GZIP"])
def test_a_compressed_body_is_not_read(coding):
    assert status(content_type="application/json", content_length="2", content_encoding=coding) is HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("method", [*sorted(SAFE), "POST"])
def test_hosts_are_looked_at_whatever_the_method(method):
    ours = hosts_for("127.0.0.1", on_loopback=True)
    assert status(method, ours) is None
    assert status(method, ours, host="evil.example:3000") is HTTPStatus.MISDIRECTED_REQUEST
    assert status(method, ours, host="evil.example:3000", origin="http://evil.example:3000") is HTTPStatus.MISDIRECTED_REQUEST
    assert status(method, ours, host=None) is HTTPStatus.BAD_REQUEST
    assert status(method, ours, host="a b") is HTTPStatus.BAD_REQUEST
    assert status(method, ours, version="1.0", host=None) is None


def test_of_two_hosts_none_counts():
    sent = RequestHeaders([(b"host", b"localhost"), (b"host", b"localhost")])
    assert find_refusal("GET", "1.1", sent, EVERY_HOST).status is HTTPStatus.BAD_REQUEST


@given(st.dictionaries(st.sampled_from(["origin", "sec_fetch_site", "content_type", "content_length", "host"]), st.text(max_size=30)))
def test_nothing_that_is_sent_breaks_it(headers):
    sent = RequestHeaders((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    refusal = find_refusal("POST", "1.1", sent, hosts_for("127.0.0.1", on_loopback=True))
    assert refusal is None or refusal.message.isprintable()
