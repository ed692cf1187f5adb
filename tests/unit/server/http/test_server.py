"""The HTTP server in the running loop, and event streams through it."""

import asyncio
import signal
import socket

import grpc
import httpx
import pytest
from fastapi import Request

from sickbay.domain import errors
from sickbay.domain.errors import SettingsError
from sickbay.domain.limits import HttpLimits
from sickbay.server.http.server import RestServer
from sickbay.server.rest.app import create_app, json_response
from sickbay.server.rest.sse import event_stream, relay, share_watches
from sickbay.server.watches import Watches
from tests.support.plain_http import NO_TLS

HINT = "choose another with PORT or --jobapi-port"


class Source:
    """Events from a test: what is put comes out; an exception is raised, None ends."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.closed = asyncio.Event()

    async def __call__(self):
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed.set()


def _app(source, **options):
    app = create_app("t", "d", "1")

    @app.get("/events")
    async def events(request: Request):
        return await event_stream(request, source(), **options)

    @app.get("/")
    async def root():
        return json_response("hello")

    return app


def _server(app, port=0):
    return RestServer(app, host="127.0.0.1", port=port, hint=HINT, grace=5)


def _client(server):
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, verify=NO_TLS)


async def _blocks(response):
    """The blocks of a stream as they come; comments included."""
    rest = ""
    async for text in response.aiter_text():
        rest += text
        while "\n\n" in rest:
            block, rest = rest.split("\n\n", 1)
            yield block


@pytest.fixture
def source():
    return Source()


async def test_a_free_port_is_told_and_headers_are_plain(source):
    async with _server(_app(source)) as server, _client(server) as client:
        response = await client.get("/")
        assert response.json() == "hello"
        assert "server" not in response.headers


async def test_a_taken_port_stops_the_start_with_one_sentence(source):
    async with _server(_app(source)) as first:
        with pytest.raises(SettingsError) as caught:
            await _server(_app(source), first.port).__aenter__()
        assert str(caught.value) == f"port {first.port} is already in use on 127.0.0.1; {HINT}"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="is already in use"):
        await _server(_app(source), taken.getsockname()[1]).__aenter__()


async def test_an_address_of_another_machine_is_one_sentence(source):
    with pytest.raises(SettingsError, match="not an address of this machine"):
        await RestServer(_app(source), host="192.0.2.1", port=0, hint=HINT).__aenter__()


async def test_signals_stay_the_programs(source):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with _server(_app(source)):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_a_port_can_be_used_again_at_once_and_stopping_twice_is_harmless(source):
    async with _server(_app(source)) as first, _client(first) as client:
        await client.get("/")
        await first.stop()
        await first.stop()
    async with _server(_app(source), first.port) as second, _client(second) as client:
        assert (await client.get("/")).status_code == 200


async def test_events_come_as_json_and_the_end_ends_the_answer(source):
    for item in (("job", {"n": 1}, "0.0.QUEUED"), ("job", {"text": "a\nb"}, ""), None):
        source.queue.put_nowait(item)
    async with _server(_app(source)) as server, _client(server) as client, client.stream("GET", "/events") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        blocks = [block async for block in _blocks(response)]
    assert blocks == [": welcome\nretry: 3000", 'id: 0.0.QUEUED\nevent: job\ndata: {"n":1}', 'event: job\ndata: {"text":"a\\nb"}']
    await source.closed.wait()


async def test_a_source_that_has_nothing_to_tell_is_answered_without_content(source):
    """At 204 a browser's EventSource stops; at an empty stream it would come again for ever."""
    source.queue.put_nowait(None)
    async with _server(_app(source)) as server, _client(server) as client:
        response = await client.get("/events")
    assert (response.status_code, response.content) == (204, b"")
    await source.closed.wait()


async def test_asking_for_the_head_of_a_stream_does_not_hold_it(source):
    async with _server(_app(source, patience=0)) as server, _client(server) as client:
        response = await client.head("/events")
        assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        await source.closed.wait()
        assert (await client.get("/")).json() == "hello"


async def test_an_error_before_the_first_event_is_a_proper_answer(source):
    source.queue.put_nowait(errors.NotFound("no such job"))
    async with _server(_app(source)) as server, _client(server) as client:
        response = await client.get("/events")
    assert (response.status_code, response.json()["reason"]) == (404, "JOB_NOT_FOUND")
    assert source.closed.is_set()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            errors.Unavailable("later"),
            '{"statusCode":503,"message":"later","reason":"BACKEND_UNAVAILABLE"}',
        ),
        (ValueError("secret"), '{"statusCode":500,"message":"internal error; see the service\'s log","reason":"INTERNAL"}'),
        (
            grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), grpc.aio.Metadata(), "m"),
            '{"statusCode":409,"message":"m","reason":"ABORTED"}',
        ),
    ],
)
async def test_a_later_error_is_told_as_an_event(source, error, told):
    source.queue.put_nowait(("job", 1, ""))
    source.queue.put_nowait(error)
    async with _server(_app(source)) as server, _client(server) as client, client.stream("GET", "/events") as response:
        blocks = [block async for block in _blocks(response)]
    assert blocks[1:] == ["event: job\ndata: 1", f"event: error\ndata: {told}"]


async def test_silence_is_filled_with_heartbeats_and_a_leaving_client_closes_the_source(source):
    async with _server(_app(source, heartbeat=0.01, patience=0)) as server, _client(server) as client:
        async with client.stream("GET", "/events") as response:
            blocks = _blocks(response)
            assert [await anext(blocks) for _ in range(3)] == [": welcome\nretry: 3000", ": still here", ": still here"]
            assert not source.closed.is_set()
        await source.closed.wait()


async def test_a_client_that_left_before_an_event_was_sent_closes_the_source(source):
    """The source then waits at its `yield`, where cancelling alone would not reach it."""

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    source.queue.put_nowait(("job", 1, ""))
    response = await event_stream(Request({"type": "http", "app": _app(source)}), source())
    await response({}, receive, send)
    assert source.closed.is_set()


async def test_stopping_the_server_ends_open_streams_cleanly(source):
    async with _server(_app(source, patience=0)) as server, _client(server) as client, client.stream("GET", "/events") as response:
        blocks = _blocks(response)
        assert await anext(blocks) == ": welcome\nretry: 3000"
        stopping = asyncio.ensure_future(server.stop())
        assert [block async for block in blocks] == []
        await stopping
    assert source.closed.is_set()


async def test_a_client_that_never_reads_its_stream_is_cut_off_and_its_source_closed(source):
    limits = HttpLimits(write_timeout=0.1)
    async with RestServer(_app(source), host="127.0.0.1", port=0, hint=HINT, limits=limits) as server:
        with socket.socket() as deaf:
            deaf.setblocking(False)
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", server.port))
            deaf.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            for _ in range(256):
                source.queue.put_nowait(("job", "x" * 100_000))
            await source.closed.wait()


async def test_relay_cancels_its_call():
    class Call:
        cancelled = False

        async def __aiter__(self):
            yield 1
            yield 2

        def cancel(self):
            self.cancelled = True

    call = Call()
    events = relay(call, lambda reply: ("n", reply))
    assert await anext(events) == ("n", 1)
    assert not call.cancelled
    await events.aclose()
    assert call.cancelled


async def test_streams_count_as_watches_of_their_peer_until_they_end():
    source = Source()
    app = _app(source)
    watches = Watches(5, 1)
    share_watches(app, watches)
    async with _server(app) as server, _client(server) as client:
        async with client.stream("GET", "/events") as first:
            assert first.status_code == 200
            second = await client.get("/events")
            assert second.status_code == 429
            assert second.json()["reason"] == "TOO_MANY_WATCHES"
            assert int(second.headers["retry-after"]) > 0
            with watches.hold("10.0.0.9"):
                assert len(watches) == 2
        await source.queue.put(None)
        async with asyncio.timeout(20):
            await source.closed.wait()
            while len(watches):
                await asyncio.sleep(0)
        for _ in range(3):
            source.queue.put_nowait(None)
            assert (await client.get("/events")).status_code == 204
