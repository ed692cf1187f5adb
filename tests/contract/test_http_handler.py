"""A handler behind HTTP over real sockets: what is sent, which connection it goes over, and what hostile endpoints can do (nothing)."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import socket
import ssl

import httpcore
import pytest

from sickbay.adapters.http_handler import connections, handler
from sickbay.adapters.http_handler.addresses import AddressRule
from sickbay.adapters.http_handler.credentials import Credentials, Place
from sickbay.adapters.http_handler.endpoint import Endpoint
from sickbay.adapters.http_handler.handler import HttpHandler
from sickbay.adapters.http_handler.network import AddressNotAllowed, CheckedNetwork
from sickbay.adapters.webhook.address import parse_address
from sickbay.domain.errors import SettingsError
from sickbay.domain.job import Job
from sickbay.domain.result import Result
from sickbay.handlers.remote import RemoteFailure
from tests.support.canned_services import closed_port
from tests.support.endpoint import JSON, endpoint, reply
from tests.support.webhook_receiver import SECRET, Received, verify

JOB = Job("0190f2a0-1111-7000-8000-000000000001", "invoice", '{"name": "gr\u00fc\u00dfe"}'.encode(), submitted_at=1)
NOW = 1_700_000_000_000
OK = reply(200, b'{"n": 1}', JSON)


def make(url, credentials=None, *, connect_s=5.0, tls=None, rule=None):
    """The handler that posts there."""
    where = Endpoint(parse_address(url), rule or AddressRule(), connect_s, tls)
    return HttpHandler(where, credentials or Credentials(), timeout_s=lambda: 30.0, clock=lambda: NOW)


@pytest.fixture
async def posting():
    """Makes handlers, and closes them."""
    made = []

    def remember(*args, **options):
        made.append(make(*args, **options))
        return made[-1]

    yield remember
    for one in made:
        await one.close()


@pytest.fixture
def failure(posting):
    """How posting a job to a URL fails."""
    return lambda url, **options: failure_of(posting(url, **options))


async def failure_of(posting):
    with pytest.raises(RemoteFailure) as caught:
        await posting(JOB)
    assert "T0KEN" not in str(caught.value)
    return caught.value


async def test_a_job_is_posted_and_its_answer_is_the_result(posting, monkeypatch):
    """The payload byte for byte, signed; the result byte for byte, too."""
    monkeypatch.setenv("BILLING_SECRET", SECRET)
    monkeypatch.setenv("BILLING_TOKEN", "Bearer t")
    credentials = Credentials(Place("secret", "BILLING_SECRET"), {"Authorization": Place("token", "BILLING_TOKEN"), "X-Team": "billing"})
    async with endpoint(reply(201, b'{"n": 1.10}', JSON)) as server:
        assert await posting(server.url, credentials)(JOB) == Result(b'{"n": 1.10}')
    (posted,) = server.received
    assert (posted.target, posted.body) == ("/jobs/T0KEN?a=b", JOB.payload_json)
    assert (posted.headers["host"], posted.headers["x-team"]) == (f"127.0.0.1:{server.port}", "billing")
    assert (posted.headers["authorization"], posted.headers["idempotency-key"]) == ("Bearer t", JOB.idempotency_key)
    verify(Received(posted.target, dict(posted.headers), posted.body), now=NOW / 1000)


async def test_the_trace_of_a_job_is_passed_on_by_a_worker_without_tracing(posting):
    """As any service passes it on, so that the trace continues after it."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with endpoint(OK) as server:
        post = posting(server.url)
        await post(dataclasses.replace(JOB, trace=f"{parent} acme=1"))
        await post(JOB)
    assert [(one.headers.get("traceparent"), one.headers.get("tracestate")) for one in server.received] == [
        (parent, "acme=1"),
        (None, None),
    ]


async def test_connections_are_kept_and_used_again(posting):
    """Also after answers without a result, failures, and bodies that nobody wants."""
    answers = iter([OK, reply(204), reply(200, b"<p>", "Content-Type: text/html"), reply(503, b"down"), reply(302), OK])

    async def answer(_posted, _writer):
        return next(answers)

    async with endpoint(answer) as server:
        post = posting(server.url)
        for _ in range(6):
            with contextlib.suppress(RemoteFailure):
                await post(JOB)
    assert (server.connections, len(server.received)) == (1, 6)


async def test_many_jobs_at_a_time_have_a_connection_each(posting):
    """No run waits for another: how many run at a time is limited elsewhere."""
    gate = asyncio.Barrier(20)

    async def answer(_posted, _writer):
        await gate.wait()
        return OK

    async with endpoint(answer) as server:
        post = posting(server.url)
        assert await asyncio.gather(*(post(JOB) for _ in range(20))) == [Result(b'{"n": 1}')] * 20
    assert server.connections == 20


async def test_a_kept_connection_that_the_server_closes_costs_nothing(posting):
    """It closes while the next request is on its way; that is sent once more, on a new connection, with the same key."""

    async def answer(posted, _writer):
        return OK if len([one for one in server.received if one.connection == posted.connection]) == 1 else None

    async with endpoint(answer) as server:
        post = posting(server.url)
        for _ in range(3):
            assert await post(JOB) == Result(b'{"n": 1}')
    assert (server.connections, len(server.received)) == (3, 5)
    assert {one.headers["idempotency-key"] for one in server.received} == {JOB.idempotency_key}


async def test_a_new_connection_that_is_closed_is_a_failure(failure):
    """Sending it again and again is the retry's business."""
    async with endpoint(None) as server:
        found = await failure(server.url)
    assert (found.code, found.kind, len(server.received)) == ("NETWORK_ERROR", "transient", 1)
    assert (
        found.message
        == f"127.0.0.1:{server.port} closed the connection in the middle of an answer or before it, or did not answer in HTTP/1.1"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.com ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(50_000)),
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n",
        reply(200, b'{"n": 1', JSON).replace(b"Content-Length: 7", b"Content-Length: 70"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n3\r\n{}",
    ],
)
async def test_what_is_no_whole_answer_is_a_failure(failure, answer):
    """Not HTTP, a head without end, a length that is none or too long, broken off in the middle of a result."""

    async def once(_posted, writer):
        writer.write(answer)
        await writer.drain()

    async with endpoint(once) as server:
        found = await failure(server.url)
    assert (found.code, found.kind) == ("NETWORK_ERROR", "transient")


async def test_interim_answers_and_more_bytes_than_announced_do_no_harm(posting):
    """What comes after the answer is not taken for the next one's."""

    async def answer(posted, _writer):
        return b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"HTTP/1.1 500 smuggled\r\nContent-Length: 0\r\n\r\n"

    async with endpoint(answer) as server:
        post = posting(server.url)
        for _ in range(3):
            assert await post(JOB) == Result(b'{"n": 1}')
    assert server.connections == 3


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_body_is_not_read(posting, failure, status):
    """At most what is kept, and what comes with it; then the connection is closed."""
    sent = 0

    async def answer(_posted, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
        while True:
            writer.write(b"10000\r\n" + b"1" * 65_536 + b"\r\n")
            await writer.drain()
            sent += 65_536

    async with endpoint(answer) as server:
        if status == 200:
            assert (await posting(server.url)(JOB)).note == "the result has more than 65,536 bytes of JSON, the most that is kept"
        else:
            assert (await failure(server.url)).code == "HTTP_500"
        await server.until(lambda: server.closed == 1)
    assert sent < 20_000_000, "what fits into the buffers of the system"


async def test_a_result_that_is_announced_as_too_large_is_not_read_at_all(posting):
    async with endpoint(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 81234\r\n\r\n{") as server:
        assert (await posting(server.url)(JOB)).note == "the result has 81,234 bytes of JSON; at most 65,536 are kept"


async def test_the_body_of_a_failure_that_drips_is_not_waited_for(failure, monkeypatch):
    """The status is known, and nobody waits until the timeout of the run for a sentence."""
    monkeypatch.setattr(handler, "REST_S", 0.05)
    gate = asyncio.Event()

    async def answer(_posted, writer):
        writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 9\r\nContent-Type: text/plain\r\n\r\nd")
        await gate.wait()

    async with endpoint(answer) as server:
        found = await failure(server.url)
        gate.set()
    assert (found.code, found.message) == ("SERVICE_UNAVAILABLE", f"127.0.0.1:{server.port} answered 503: Service Unavailable")


async def test_a_cancelled_run_closes_its_request(posting):
    """The endpoint notices that nobody waits any more; other runs go on."""

    async def answer(posted, _writer):
        if len(server.received) == 1:
            await asyncio.Event().wait()
        return OK

    async with endpoint(answer) as server:
        post = posting(server.url)
        run = asyncio.create_task(post(JOB))
        await server.until(lambda: len(server.received) == 1)
        reader_gone = asyncio.create_task(server.until(lambda: server.closed == 1))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await post(JOB) == Result(b'{"n": 1}')
        assert server.connections == 2
        reader_gone.cancel()


async def test_a_redirect_is_not_followed_and_cookies_are_not_kept(posting):
    """The signature is for one address."""
    async with endpoint(OK) as other:

        async def answer(_posted, _writer):
            return reply(307, b"", f"Location: {other.url}", "Set-Cookie: a=b")

        async with endpoint(answer) as server:
            post = posting(server.url)
            for _ in range(2):
                with pytest.raises(RemoteFailure, match=r"REDIRECTED: .*redirects are not followed"):
                    await post(JOB)
    assert other.received == []
    assert [one.headers.get("cookie") for one in server.received] == [None, None]


async def test_proxies_of_the_environment_are_not_used(posting, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    async with endpoint(OK) as server:
        assert await posting(server.url)(JOB) == Result(b'{"n": 1}')


async def test_who_does_not_listen_or_does_not_exist(failure):
    """Codes and kinds are those of httpx's exceptions in a handler in Python."""
    port = closed_port()
    found = await failure(f"http://127.0.0.1:{port}/T0KEN")
    assert (found.code, found.kind, found.message) == (
        "CONNECTION_REFUSED",
        "systemic",
        f"127.0.0.1:{port} could not be reached: Connection refused",
    )
    found = await failure("http://nobody.invalid/T0KEN")
    assert (found.code, found.kind) == ("NETWORK_ERROR", "transient")
    assert found.message.startswith("the name nobody.invalid is not known: ")


async def test_who_does_not_take_connections_is_a_timeout(failure):
    """The queue of a listening socket is full."""
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())
        found = [await failure(f"http://127.0.0.1:{full.getsockname()[1]}/", connect_s=0.2)]
    assert [(one.code, one.kind) for one in found] == [("API_TIMEOUT", "systemic")]
    assert found[0].message.endswith("could not be reached within 0.2 s")


class Net(httpcore.AsyncNetworkBackend):
    """Connects nowhere, and notes where to."""

    def __init__(self, *answering):
        self.asked, self._answering = [], answering

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.asked.append(host)
        if host not in self._answering:
            raise httpcore.ConnectError
        return httpcore.AsyncMockStream([])


@pytest.fixture
def names(monkeypatch):
    """What names mean: a list of addresses for each."""
    known = {}

    async def getaddrinfo(_loop, host, port, **_):
        return [(0, 0, 0, "", (address, port)) for address in known[host]]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", getaddrinfo)
    monkeypatch.setattr("uvloop.Loop.getaddrinfo", getaddrinfo, raising=False)
    return known


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(names):
    """A name is resolved once, and the driver is given an address: no second answer of the name server counts."""
    names["rebound.example"] = ["169.254.169.254", "10.0.0.7", "10.0.0.8", "10.0.0.7"]
    net = Net("10.0.0.8")
    await CheckedNetwork(AddressRule(), net).connect_tcp("rebound.example", 80, 1.0)
    assert net.asked == ["10.0.0.7", "10.0.0.8"]


async def test_a_name_with_no_address_that_is_allowed_is_not_connected_to(names):
    """The sentence says which address, and which key would allow it."""
    names["metadata.example"] = ["169.254.169.254", "fe80::1%2"]
    net = Net()
    with pytest.raises(
        AddressNotAllowed, match=r"metadata\.example has the address 169\.254\.169\.254, which is not allowed: .*allow_link_local"
    ):
        await CheckedNetwork(AddressRule(), net).connect_tcp("metadata.example", 80, 1.0)
    assert net.asked == []
    names["nowhere.example"] = []
    with pytest.raises(httpcore.ConnectError):
        await CheckedNetwork(AddressRule(), net).connect_tcp("nowhere.example", 80)


async def test_a_private_address_is_refused_where_that_is_set(failure):
    """For endpoints of others: a name that suddenly means a machine inside."""
    async with endpoint(OK) as server:
        found = await failure(server.url, rule=AddressRule(private=False))
    assert (found.code, found.kind, server.connections) == ("ADDRESS_NOT_ALLOWED", "systemic", 0)


async def test_certificates_are_verified(posting, failure, authority, stranger):
    """Against the authorities of `ca_file`, and for the name in the URL."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.sign("localhost"))
    trusting, other = (ssl.create_default_context(cafile=one.ca) for one in (authority, stranger))
    async with endpoint(OK, tls) as server:
        post = posting(f"https://localhost:{server.port}/", tls=trusting)
        assert [await post(JOB), await post(JOB)] == [Result(b'{"n": 1}')] * 2
        assert server.connections == 1
        found = await failure(f"https://localhost:{server.port}/", tls=other)
        assert (found.code, found.kind) == ("CONNECTION_REFUSED", "systemic")
        assert "the certificate of localhost" in found.message
        assert "authority is unknown (ca_file)" in found.message
        assert "the certificate of 127.0.0.1" in (await failure(f"https://127.0.0.1:{server.port}/", tls=trusting)).message
    for answer, words in (
        (reply(400), "does not speak TLS as this worker does: WRONG_VERSION_NUMBER"),
        (b"", "could not be reached within 0.1 s"),
    ):
        async with plain_server(answer) as port:
            found = await failure(f"https://localhost:{port}/", tls=trusting, connect_s=0.1 if not answer else 5)
        assert found.message == f"localhost:{port} {words}"


async def test_a_run_that_is_cancelled_during_the_handshake_leaves_no_connection(posting, authority):
    """The server sees its end at once, without a garbage collection."""
    ended = asyncio.Event()

    async def wait_for_the_end(reader, writer):
        await reader.readexactly(1)
        begun.set()
        await reader.read()
        writer.transport.abort()
        ended.set()

    begun = asyncio.Event()
    async with await asyncio.start_server(wait_for_the_end, "127.0.0.1", 0) as silent:
        url = f"https://localhost:{silent.sockets[0].getsockname()[1]}/"
        run = asyncio.create_task(posting(url, tls=ssl.create_default_context(cafile=authority.ca))(JOB))
        async with asyncio.timeout(10):
            await begun.wait()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            await ended.wait()


@contextlib.asynccontextmanager
async def plain_server(answer):
    """Says this at once, without TLS, and keeps the connection."""
    writers = []

    def greet(_, writer):
        writers.append(writer)
        writer.write(answer)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def test_connections_end_with_their_loop():
    """The loop of the handlers may be abandoned and replaced; nothing is left open (warnings are errors), and nobody has to be told."""

    async def post_one():
        async with endpoint(OK) as server:
            other = make(server.url)
            await post(JOB, server, other)

    async def post(job, server, other):
        await other(job)
        shared._endpoint = Endpoint(parse_address(server.url))
        await shared(job)

    shared = make("http://127.0.0.1:1/")
    for _ in range(2):
        asyncio.run(post_one())
    gc.collect()


async def test_connections_of_a_handler_that_is_replaced_are_closed():
    """As soon as nobody uses it any more."""
    async with endpoint(OK) as server:
        post = make(server.url)
        await post(JOB)
        assert server.closed == 0
        del post
        await server.until(lambda: server.closed == 1)


async def test_an_idle_connection_is_not_kept_for_ever(posting, monkeypatch):
    monkeypatch.setattr(connections, "KEPT_S", 0.0)
    async with endpoint(OK) as server:
        post = posting(server.url)
        await post(JOB)
        await post(JOB)
    assert server.connections == 2


async def test_a_secret_in_a_file_may_change(tmp_path, monkeypatch, caplog):
    """Within a second; what cannot be used changes nothing, and the log says why, without the secret."""
    monkeypatch.setattr("sickbay.adapters.http_handler.credentials.LOOK_S", 0.0)
    caplog.set_level(logging.INFO)
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    credentials = Credentials(Place("types.invoice.handler.secret", file=str(file)))
    assert len(credentials.current().keys) == 1
    file.write_text(f"{SECRET}\n{SECRET}\n")
    assert len(credentials.current().keys) == 2
    file.write_text("hunter2")
    assert len(credentials.current().keys) == 2
    file.unlink()
    assert len(credentials.current().keys) == 2
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING"]
    assert "types.invoice.handler.secret (the file" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read: No such file"), (b" \n", "is empty"), (b"\xff", "is not UTF-8"), (b"whsec_x", "must be whsec_")],
)
def test_a_secret_that_cannot_be_used_stops_the_start(tmp_path, text, words):
    file = tmp_path / "secret"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(SettingsError, match=words) as caught:
        Credentials(Place("types.a.handler.secret", file=str(file)))
    assert str(caught.value).startswith("types.a.handler.secret")


def test_a_variable_must_be_set_and_its_text_fit_for_a_header(monkeypatch):
    with pytest.raises(SettingsError, match=r"headers\.A: the variable NOT_THERE is not set"):
        Credentials(None, {"A": Place("headers.A", "NOT_THERE")})
    monkeypatch.setenv("TOKEN", "a\nhunter2")
    with pytest.raises(SettingsError, match=r"headers\.A: the header A must have a value") as caught:
        Credentials(None, {"A": Place("headers.A", "TOKEN")})
    assert "hunter2" not in str(caught.value)


async def test_a_failure_does_not_repeat_a_secret(posting, monkeypatch):
    """An endpoint in debugging mode answers with what it was sent."""
    monkeypatch.setenv("BILLING_TOKEN", "Bearer 0123456789")

    async def answer(posted, _writer):
        return reply(500, json.dumps({"detail": dict(posted.headers)["authorization"]}).encode(), JSON)

    async with endpoint(answer) as server:
        credentials = Credentials(None, {"Authorization": Place("token", "BILLING_TOKEN")})
        with pytest.raises(RemoteFailure, match=r"answered 500: \*\*\*$"):
            await posting(server.url, credentials)(JOB)
