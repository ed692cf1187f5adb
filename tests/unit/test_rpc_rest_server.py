"""The HTTP server in the running loop, and event streams through it."""

import asyncio
import signal
import socket

import grpc
import httpx
import pytest
from fastapi import Request

from sickbay import errors
from sickbay.errors import SettingsError
from sickbay.rpc.rest import create_app, json_response
from sickbay.rpc.rest_server import RestServer
from sickbay.rpc.sse import event_stream, relay

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
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False)


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
        assert str(caught.value) == f"port {first.port} is taken on 127.0.0.1; {HINT}"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="is taken"):
        await _server(_app(source), taken.getsockname()[1]).__aenter__()


async def test_an_address_of_another_machine_is_one_sentence(source):
    with pytest.raises(SettingsError, match="no address of this machine"):
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
    for item in (("job", {"n": 1}), ("job", {"text": "a\nb"}), None):
        source.queue.put_nowait(item)
    async with _server(_app(source)) as server, _client(server) as client, client.stream("GET", "/events") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        blocks = [block async for block in _blocks(response)]
    assert blocks == [": welcome", 'event: job\ndata: {"n":1}', 'event: job\ndata: {"text":"a\\nb"}']
    await source.closed.wait()


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
    source.queue.put_nowait(("job", 1))
    source.queue.put_nowait(error)
    async with _server(_app(source)) as server, _client(server) as client, client.stream("GET", "/events") as response:
        blocks = [block async for block in _blocks(response)]
    assert blocks[1:] == ["event: job\ndata: 1", f"event: error\ndata: {told}"]


async def test_silence_is_filled_with_heartbeats_and_a_leaving_client_closes_the_source(source):
    async with _server(_app(source, heartbeat=0.01, patience=0)) as server, _client(server) as client:
        async with client.stream("GET", "/events") as response:
            blocks = _blocks(response)
            assert [await anext(blocks) for _ in range(3)] == [": welcome", ": still here", ": still here"]
            assert not source.closed.is_set()
        await source.closed.wait()


async def test_a_client_that_left_before_an_event_was_sent_closes_the_source(source):
    """The source then waits at its `yield`, where cancelling alone would not reach it."""

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    source.queue.put_nowait(("job", 1))
    response = await event_stream(Request({"type": "http", "app": _app(source)}), source())
    await response({}, receive, send)
    assert source.closed.is_set()


async def test_stopping_the_server_ends_open_streams_cleanly(source):
    async with _server(_app(source, patience=0)) as server, _client(server) as client, client.stream("GET", "/events") as response:
        blocks = _blocks(response)
        assert await anext(blocks) == ": welcome"
        stopping = asyncio.ensure_future(server.stop())
        assert [block async for block in blocks] == []
        await stopping
    assert source.closed.is_set()


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
