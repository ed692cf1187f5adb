"""The webhook over real sockets: what is sent, how it is signed, and which answers count (`Webhook`)."""

import asyncio
import socket
import ssl

import pytest

from sickbay.adapters.webhook import http
from sickbay.adapters.webhook.http import HttpWebhook
from sickbay.adapters.webhook.signature import parse_secret, signed_headers
from sickbay.domain.errors import SettingsError
from sickbay.ports.incidents import Notice, Undelivered
from tests.support.webhook_receiver import SECRET, Received, Receiver, verify

NOTICE = Notice("incident-1-opened-0-5", 1, '{"text":"gr\u00fc\u00dfe"}'.encode(), 1, 5)
NOW = 1_700_000_000


def webhook(url, secret=SECRET):
    return HttpWebhook(url, secret, lambda: NOW * 1000 + 7)


async def test_a_notice_is_posted_and_signed():
    with Receiver() as receiver:
        await webhook(receiver.url).deliver(NOTICE)
        await webhook(receiver.url).deliver(NOTICE)
    first, second = receiver.received
    assert (first.path, first.body, first.headers["content-type"]) == ("/hook/T0KEN?a=b", NOTICE.body, "application/json")
    assert (first.headers["webhook-id"], first.headers["webhook-timestamp"]) == (NOTICE.notice_id, str(NOW))
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert first.headers["host"] == f"127.0.0.1:{receiver.port}"
    verify(first, now=NOW)
    for wrong in (Received(first.path, first.headers, first.body + b" "), Received("", first.headers | {"webhook-id": "x"}, first.body)):
        with pytest.raises(AssertionError, match="not signed"):
            verify(wrong, now=NOW)


def test_the_example_of_the_specification():
    """`whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw` with these values has this signature in every library of Standard Webhooks."""
    key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_without_a_secret_it_is_not_signed():
    with Receiver() as receiver:
        await webhook(receiver.url, None).deliver(NOTICE)
    (found,) = receiver.received
    assert found.headers["webhook-id"] == NOTICE.notice_id
    assert "webhook-signature" not in found.headers


@pytest.mark.parametrize(
    ("answer", "words", "wait_s", "is_final"),
    [
        (500, "it answered 500", 0, False),
        ((503, {"Retry-After": "120"}), "it answered 503", 120, False),
        ((429, {"Retry-After": "99999"}), "it answered 429", 3_600, False),
        ((302, {"Location": "http://127.0.0.1:1/"}), "redirects are not followed", 0, False),
        (410, "it wants no more notices", 0, True),
        (404, "it answered 404", 0, False),
    ],
)
async def test_only_a_success_counts(answer, words, wait_s, is_final):
    with Receiver(lambda _: answer) as receiver, pytest.raises(Undelivered, match=words) as caught:
        await webhook(receiver.url).deliver(NOTICE)
    assert (caught.value.retry_after_s, caught.value.is_final, len(receiver.received)) == (wait_s, is_final, 1)
    assert "T0KEN" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_every_success_counts(status):
    with Receiver(lambda _: status) as receiver:
        await webhook(receiver.url).deliver(NOTICE)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the connection was lost"),
        (b"HTTP/1.1 20", "the connection was lost"),
        (b"220 mail.example.com ESMTP\r\n\r\n", "it did not answer in HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "the head of its answer is too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ""),
    ],
)
async def test_odd_answers(answer, words):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if words:
            with pytest.raises(Undelivered, match=words):
                await webhook(url).deliver(NOTICE)
        else:
            await webhook(url).deliver(NOTICE)


async def test_nobody_is_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT_S", 0.2)
    gate = asyncio.Event()

    async def serve(_reader, writer):
        await gate.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(Undelivered, match="it did not answer within"):
            await webhook(url).deliver(NOTICE)
        gate.set()


async def test_who_does_not_listen_or_does_not_exist():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Undelivered, match="the connection was refused"):
            await webhook(f"http://127.0.0.1:{taken.getsockname()[1]}/").deliver(NOTICE)
    with pytest.raises(Undelivered, match=r"the name nobody\.invalid is not known"):
        await webhook("https://nobody.invalid/").deliver(NOTICE)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/",
        "https:///hook",
        "https://u:p@example.com/",
        "https://example.com/a b",
        "https://example.com:99999/",
        "https://ex\u00e4mple.com/",
    ],
)
def test_a_bad_address_is_told_without_it(url):
    with pytest.raises(SettingsError, match="WEBHOOK_URL") as caught:
        webhook(url)
    assert url not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_", "whsec_aGVsbG8=", "whsec_%%%%", "whsec_" + "A" * 200])
def test_a_bad_secret_is_told_without_it(secret):
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET must be whsec_") as caught:
        webhook("https://example.com/", secret)
    assert not secret or secret == "whsec_" or secret not in str(caught.value)


async def test_the_certificate_is_verified(authority, stranger, monkeypatch):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.sign("localhost"))
    with Receiver(tls=tls) as receiver:
        url = f"https://localhost:{receiver.port}/"
        monkeypatch.setenv("SSL_CERT_FILE", str(stranger.ca))
        with pytest.raises(Undelivered, match="its certificate is not valid for localhost, or its authority is unknown"):
            await webhook(url).deliver(NOTICE)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        await webhook(url).deliver(NOTICE)
        with pytest.raises(Undelivered, match=r"its certificate is not valid for 127\.0\.0\.1"):
            await webhook(f"https://127.0.0.1:{receiver.port}/").deliver(NOTICE)
    assert len(receiver.received) == 1
