"""Connections of an HTTP port within their bounds: what is parsed when, what is refused how, and when patience ends."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sickbay.domain.limits import HttpLimits
from sickbay.server.http import limits as bounds
from sickbay.server.rest.guard import SECURITY_HEADERS
from tests.support.http_port import HttpPort, answers, request, settled

MIB = 1024 * 1024
POST = b"POST /jobs"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def _length(size):
    return b"Content-Length: %d\r\n" % size


@pytest.fixture
async def open_port():
    """Opens ports with limits, for the time of the test."""
    ports = []

    def open_port(**limits):
        ports.append(HttpPort(**limits))
        return ports[-1]

    yield open_port
    for port in ports:
        await port.aclose()


@pytest.fixture
async def port(open_port):
    return open_port()


async def test_uvicorn_still_has_what_a_connection_uses_of_it(port):
    """When this fails after an upgrade: read `HttpToolsProtocol` and `RequestResponseCycle` anew, and `connection.py` beside them.

    Look at where a cycle is made and started (`on_headers_complete`: its transport is exchanged before its task runs), where its
    end is told (`on_response_complete`), where reading is paused and resumed (`flow`), and where the keep-alive timer begins.
    """
    callbacks = ("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete")
    protocol = ("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing", "_unset_keepalive_if_required")
    assert [name for name in (*callbacks, *protocol) if not callable(getattr(HttpToolsProtocol, name, None))] == []
    assert [name for name in ("pause_reading", "resume_reading") if not callable(getattr(FlowControl, name, None))] == []
    connection = port.connect()
    connection.data_received(request())
    ours = ("parser", "loop", "transport", "flow", "client", "headers", "url", "cycle", "server_state")
    assert [name for name in ours if not hasattr(connection, name)] == []
    cycle = ("transport", "keep_alive", "disconnected", "message_event", "response_started", "response_complete")
    assert isinstance(connection.cycle, RequestResponseCycle)
    assert [name for name in cycle if not hasattr(connection.cycle, name)] == []
    await settled()
    assert answers(connection) == [200]


# one request at a time


async def test_pipelined_requests_are_answered_one_after_the_other(port):
    connection = port.connect()
    port.go.clear()
    connection.data_received(request() * 1000)
    await settled()
    assert len(port.calls) == 1
    assert connection.transport.paused
    port.go.set()
    while len(port.calls) < 1000:
        await settled()
    assert answers(connection) == [200] * 1000
    assert not connection.transport.paused


async def test_nothing_is_parsed_while_the_client_does_not_read_its_answers(port):
    connection = port.connect()
    connection.pause_writing()
    connection.data_received(request() * 3)
    await settled()
    assert (port.calls, connection.transport.paused) == ([], True)
    connection.resume_writing()
    await settled()
    assert (len(port.calls), connection.transport.paused) == (3, False)


async def test_bytes_that_wait_behind_answers_are_bounded_in_all(open_port):
    port = open_port(body_buffer_bytes=MIB)
    port.go.clear()
    crowd = [port.connect() for _ in range(6)]
    for connection in crowd:
        connection.data_received(request() + b"x" * 200_000)
    await settled()
    assert [connection.transport.aborted for connection in crowd] == [False] * 5 + [True]


@given(st.data())
async def test_requests_are_the_same_however_their_bytes_are_cut(data):
    sent = [
        request(),
        request(POST, _length(7), b"\r\n\r\nabc"),
        request(POST, CHUNKED, b"4;x=y\r\n\r\n\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        request(b"GET /y"),
    ]
    whole = b"".join(sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=12)))
    async with aclosing(HttpPort()) as port:  # also if a draw ends the example in the middle of a request
        connection = port.connect()
        for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            connection.data_received(whole[begin:end])
            if data.draw(st.booleans()):
                await settled()
        while len(answers(connection)) < len(sent) and not connection.transport.closed:
            await settled()
    host = [(b"host", b"a")]
    assert [call[:3] for call in port.calls] == [
        ("GET", "/x", b""),
        ("POST", "/jobs", b"\r\n\r\nabc"),
        ("POST", "/jobs", b"\r\n\r\nabc"),
        ("GET", "/y", b""),
    ]
    assert port.calls[2][3] == [*host, (b"transfer-encoding", b"chunked")], "a trailer is no header"


# headers


async def test_a_header_that_never_ends_is_refused_once_it_is_too_large(port):
    connection = port.connect()
    connection.data_received(b"GET /x HTTP/1.1\r\nHost: a\r\nX: ")
    while not connection.transport.ended:
        connection.data_received(b"a" * 4096)
    assert connection._request.head_bytes == port.port.limits.max_header_bytes + 1
    assert (answers(connection), port.refused(), port.calls) == ([431], {"header_size": 1}, [])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(headers=b"X: y\r\n" * bounds.MAX_HEADERS), 431),
        (request(headers=b"X: " + b"y" * 70_000 + b"\r\n"), 431),
        (request(b"GET /" + b"x" * bounds.MAX_URL_BYTES), 414),
        (request(POST, CHUNKED, b"2;" + b"x" * 20_000 + b"\r\n{}\r\n0\r\n\r\n"), 431),
        (request(POST, CHUNKED, b"2\r\n{}\r\n0\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"), 431),
        (request(POST, CHUNKED, b"0" * 20_000 + b"2\r\n{}\r\n0\r\n\r\n"), 431),
    ],
)
async def test_what_is_too_large_is_refused_and_told(port, sent, status):
    port.go.clear()
    connection = port.connect()
    connection.data_received(sent)
    await settled()
    assert (answers(connection), port.refused()) == ([status], {"header_size": 1})
    assert b"connection: close" in connection.transport.written


async def test_what_the_port_itself_refuses_is_sealed_like_every_answer(port):
    connection = port.connect()
    connection.data_received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    await settled()
    head = connection.transport.written.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    assert SECURITY_HEADERS.items() <= dict(line.split(": ", 1) for line in head).items()


async def test_a_header_as_large_as_it_may_be_is_answered(port):
    connection = port.connect()
    connection.data_received(request(headers=b"X: y\r\n" * (bounds.MAX_HEADERS - 2) + b"X: "[:3] + b"y" * 60_000 + b"\r\n"))
    await settled()
    assert (answers(connection), port.refused()) == ([200], {})


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (request(POST, _length(5) + CHUNKED, b"0\r\n\r\n"), 400),
        (request(POST, CHUNKED + _length(5), b"0\r\n\r\n"), 400),
        (request(POST, _length(5) + _length(5), b"hello"), 400),
        (request(POST, b"Content-Length: 5, 5\r\n", b"hello"), 400),
        (request(POST, b"Content-Length: +5\r\n", b"hello"), 400),
        (request(POST, b"Content-Length: 99999999999999999999\r\n"), 400),
        (request(POST, b"Content-Length : 5\r\n", b"hello"), 400),
        (request(headers=b"X: a\r\n b\r\n"), 400),
        (request(POST, b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), 400),
        (request(headers=b"X: a\0b\r\n"), 400),
        (request(headers=b"X\0: b\r\n"), 400),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        (request(POST, CHUNKED, b"fffffffffffffffff\r\n"), 400),
        (request(POST, CHUNKED, b"-1\r\n"), 400),
        (request(POST, CHUNKED, b"0x1\r\nx\r\n0\r\n\r\n"), 400),
        (request(POST, CHUNKED, b"1 \r\nx\r\n0\r\n\r\n"), 400),
        (request(POST, CHUNKED, b"1\nx\n0\n\n"), 400),
        (request(POST, CHUNKED, b"1\r\nxy\r\n0\r\n\r\n"), 400),
        (request(POST, b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501),
        (request(POST, b"Transfer-Encoding: identity\r\n" + CHUNKED, b"0\r\n\r\n"), 501),
        (b"POST /jobs HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 501),
        (request(POST, b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + _length(2), b"{}"), 400),
        (request(headers=b"Host: b\r\n"), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
async def test_what_two_servers_could_read_differently_is_refused_and_counted(port, sent, status, caplog):
    port.go.clear()
    connection = port.connect()
    connection.data_received(sent)
    connection.data_received(request(b"GET /smuggled"))
    await settled()
    assert (answers(connection), port.refused()) == ([status], {"malformed": 1})
    assert "/smuggled" not in [path for _, path, *_ in port.calls]
    assert not caplog.records, "one line a minute tells of all of them"


async def test_an_upgrade_that_nobody_follows_is_a_request_like_any_other(port):
    connection = port.connect()
    connection.data_received(request(headers=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n") + request())
    await settled()
    assert answers(connection) == [200, 200]


# time


async def test_a_connection_that_says_nothing_is_closed_without_a_word(port):
    connection = port.connect()
    await port.pass_time(10)
    assert not connection.transport.closed
    await port.pass_time(1)
    assert (connection.transport.closed, connection.transport.written, port.refused()) == (True, b"", {"silent": 1})


async def test_a_header_has_its_time_from_its_first_byte(port):
    connection = port.connect()
    await port.pass_time(9)
    for byte in b"GET /x HTTP":
        assert not connection.transport.ended
        connection.data_received(bytes([byte]))
        await port.pass_time(1)
    assert (answers(connection), connection.transport.ended, port.refused()) == ([408], True, {"header_timeout": 1})


async def test_a_body_has_its_time_and_more_the_more_of_it_comes(port):
    port.go.clear()
    slow, quick = port.connect(), port.connect()
    for connection in (slow, quick):
        connection.data_received(request(POST, _length(8 * MIB)))
    for _ in range(40):
        slow.data_received(b"x" * 1000)
        quick.data_received(b"x" * 2 * bounds.LEAST_RATE)
        await port.pass_time(1)
    assert (answers(slow), answers(quick), port.refused()) == ([408], [], {"body_timeout": 1})


async def test_an_idle_connection_is_not_a_late_header(port):
    connection = port.connect()
    connection.data_received(request())
    await settled()
    await port.pass_time(60)
    assert not connection.transport.closed
    connection.data_received(b"G")
    await port.pass_time(11)
    assert answers(connection) == [200, 408]


async def test_the_application_may_take_its_time(port):
    port.go.clear()
    connection = port.connect()
    connection.data_received(request(POST, _length(2), b"{}"))
    await settled()
    await port.pass_time(600)
    port.go.set()
    await settled()
    assert (answers(connection), port.refused()) == ([200], {})


async def test_a_client_that_reads_nothing_is_cut_off_and_one_that_reads_slowly_is_not(port):
    deaf, slow = port.connect(), port.connect()
    for connection in (deaf, slow):
        connection.transport.unsent = 100_000
        connection.pause_writing()
    for _ in range(100):
        slow.transport.unsent -= 10
        await port.pass_time(1)
    assert (deaf.transport.aborted, slow.transport.aborted, port.refused()["unread"]) == (True, False, 1)


async def test_a_last_answer_that_is_not_read_does_not_keep_the_connection(port):
    connection = port.connect()
    connection.transport.unsent = 100
    connection.data_received(request(headers=b"Connection: close\r\n"))
    await settled()
    assert (connection.transport.closed, connection.transport.aborted) == (True, False)
    await port.pass_time(32)
    assert connection.transport.aborted


# answers before the body has come


async def test_what_comes_after_an_answer_is_read_and_thrown_away_before_the_connection_is_closed(port):
    port.reads = False
    connection = port.connect()
    connection.data_received(request(POST, b"Connection: close\r\n" + _length(8 * MIB), b"x"))
    await settled()
    assert (answers(connection), connection.transport.ended, connection.transport.closed) == ([200], True, False)
    for _ in range(8):
        connection.data_received(b"x" * MIB)
    assert not connection.transport.closed
    await port.pass_time(31)
    assert connection.transport.aborted


async def test_a_connection_that_is_kept_goes_on_after_the_rest_of_the_body(port):
    port.reads = False
    connection = port.connect()
    connection.data_received(request(POST, _length(8 * MIB), b"x"))
    await settled()
    connection.data_received(b"x" * (8 * MIB - 1) + request(b"GET /y"))
    await settled()
    assert (answers(connection), port.calls[-1][1]) == ([200, 200], "/y")


@pytest.mark.parametrize("headers", [b"", b"Connection: close\r\n"])
async def test_it_is_thrown_away_up_to_a_bound(port, headers):
    port.reads = False
    connection = port.connect()
    connection.data_received(request(POST, headers + _length(2**40), b"x"))
    await settled()
    for _ in range(bounds.LINGER_BYTES // MIB):
        connection.data_received(b"x" * MIB)
    connection.data_received(b"x" * 10)
    assert (connection.transport.aborted, port.refused()) == (True, {"body_size": 1})


# places and room


async def test_the_one_that_kept_us_waiting_longest_makes_room(open_port):
    port = open_port(max_connections=3)
    first, second, third = port.connect(), port.connect("192.0.2.2"), port.connect("192.0.2.3")
    first.data_received(request())
    await settled()
    await port.pass_time(2)
    port.go.clear()
    first.data_received(request())
    second.data_received(b"GET /x")
    third.data_received(request())
    await settled()
    await port.pass_time(2)
    newcomer = port.connect("192.0.2.4")
    newcomer.data_received(request())
    port.go.set()
    await settled()
    assert (answers(second), second.transport.closed) == ([503], True)
    assert (answers(first), answers(third), answers(newcomer)) == ([200, 200], [200], [200])
    assert port.refused() == {"oldest": 1}


async def test_when_nobody_can_make_room_health_is_answered_and_others_are_told_to_come_again(open_port):
    port = open_port(max_connections=2)
    port.go.clear()
    for connection in (port.connect(), port.connect()):
        connection.data_received(request())
    probe, client = port.connect(), port.connect()
    port.go.set()
    probe.data_received(request(b"GET /health"))
    client.data_received(request())
    await settled()
    assert (answers(probe), probe.transport.closed, answers(client)) == ([200], True, [503])
    assert b"retry-after: 1" in client.transport.written
    assert port.refused() == {"connections": 1}


async def test_silent_newcomers_take_the_spare_places_of_each_other(open_port):
    port = open_port(max_connections=2)
    port.go.clear()
    for connection in (port.connect(), port.connect()):
        connection.data_received(request())
    crowd = [port.connect() for _ in range(bounds.SPARE + 3)]
    assert [connection.transport.aborted for connection in crowd] == [True] * 3 + [False] * bounds.SPARE
    assert len(port.port.limiter) == 2 + bounds.SPARE
    for connection in port.connections:
        connection.connection_lost(None)
    assert len(port.port.limiter) == 0


async def test_one_peer_cannot_take_all_places(open_port):
    port = open_port(max_connections_per_peer=2)
    port.go.clear()
    crowd = []
    for peer in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"):
        crowd.append(port.connect(peer))
        crowd[-1].data_received(request())
    port.go.set()
    await settled()
    assert [answers(connection) for connection in crowd] == [[200], [200], [503], [200]]
    assert port.refused() == {"peer_connections": 1}


async def test_large_bodies_wait_for_room_in_order_and_small_ones_do_not(open_port):
    port = open_port(body_buffer_bytes=4 * MIB)
    port.go.clear()
    first, second, small = port.connect(), port.connect(), port.connect()
    for connection in (first, second):
        connection.data_received(request(POST, _length(3 * MIB), b"x" * 100_000))
    small.data_received(request(POST, _length(50_000), b"x" * 50_000))
    await settled()
    assert (first.transport.paused, second.transport.paused) == (False, True)
    assert [len(body) for _, _, body, _ in port.calls] == [50_000]
    first.data_received(b"x" * (3 * MIB - 100_000))
    await settled()
    assert second.transport.paused, "the room of a body is free when its answer is there"
    port.go.set()
    await settled()
    assert not second.transport.paused
    second.data_received(b"x" * (3 * MIB - 100_000))
    await settled()
    assert (answers(first), answers(second), answers(small), port.port.bodies.taken) == ([200], [200], [200], 0)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_stalls_loses_its_room_to_one_that_waits(open_port, chunked):
    port = open_port(body_buffer_bytes=bounds.LARGEST_BODY)
    piece = b"x" * 100_000
    stalled, waiting = port.connect(), port.connect()
    for connection in (stalled, waiting):
        body = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
        connection.data_received(request(POST, CHUNKED if chunked else _length(9 * MIB), body))
        await settled()
    stalled.data_received(b"")
    await port.pass_time(1)
    assert (answers(stalled), stalled.transport.ended, waiting.transport.paused) == ([503], True, False)
    assert port.refused() == {"body_room": 1}


async def test_a_body_that_finds_no_room_in_time_is_refused(open_port):
    port = open_port(body_buffer_bytes=4 * MIB)
    port.go.clear()
    busy, waiting = port.connect(), port.connect()
    busy.data_received(request(POST, _length(3 * MIB), b"x" * 3 * MIB))
    waiting.data_received(request(POST, _length(3 * MIB)))
    await settled()
    await port.pass_time(31)
    assert (answers(busy), answers(waiting), port.refused()) == ([], [503], {"body_room": 1})


async def test_a_body_larger_than_all_room_comes_alone(open_port):
    port = open_port(body_buffer_bytes=0)
    connection = port.connect()
    connection.data_received(request(POST, _length(MIB), b"x" * MIB))
    await settled()
    assert answers(connection) == [200]


async def test_who_leaves_gives_everything_back(port):
    connection = port.connect()
    connection.data_received(request(POST, _length(9 * MIB), b"x"))
    await settled()
    assert (port.port.bodies.taken, len(port.port.limiter)) == (9 * MIB, 1)
    connection.connection_lost(None)
    assert (port.port.bodies.taken, len(port.port.limiter)) == (0, 0)


@pytest.mark.parametrize(
    ("headers", "begin"),
    [(_length(9 * MIB), b"x" * 100_000), (_length(9), b"x"), (CHUNKED, b"1\r\nx\r\n")],
    ids=["large", "small", "chunked"],
)
async def test_an_application_that_waits_for_a_body_ends_when_its_client_leaves(port, headers, begin):
    connection = port.connect()
    connection.data_received(request(POST, headers, begin))
    await settled()
    assert len(port.tasks) == 1
    connection.connection_lost(None)
    await settled()
    assert not port.tasks


async def test_an_application_whose_answer_is_not_read_ends_when_its_client_leaves(port):
    connection = port.connect()
    connection.data_received(request())
    connection.pause_writing()
    await settled()
    assert (len(port.tasks), answers(connection)) == (1, [])
    connection.connection_lost(None)
    await settled()
    assert not port.tasks


def test_ports_plan_with_no_more_connections_than_leave_files_for_the_rest():
    limits = HttpLimits()
    planned = [limits.within(files, 6) for files in (64, 1_024, 65_536)]
    assert [(one.max_connections, one.max_connections_per_peer) for one in planned] == [(16, 8), (85, 42), (4_096, 2_048)]


async def test_one_line_a_minute_tells_of_each_reason(port, caplog):
    for second in range(61):
        connection = port.connect()
        connection.data_received(b"no HTTP\r\n\r\n")
        port.port.meter.log_counts(3000, float(second))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.rpartition("(")[2] for line in lines] == ["1 since the last such line)", "60 since the last such line)"]


# many large bodies


async def test_large_bodies_are_read_a_few_at_a_time_and_all_of_them_to_the_end(port):
    size = 200_000
    connections = [port.connect() for _ in range(2 * bounds.READERS_A_TURN + 1)]
    for connection in connections:
        connection.data_received(request(POST, _length(size)) + b"x" * (size // 2))
    while not any(connection.flow.read_paused for connection in connections):
        await asyncio.sleep(0)
    paused = {len(connections)}
    while left := sum(connection.transport.paused for connection in connections):
        paused.add(left)
        await asyncio.sleep(0)
    assert paused == {len(connections), bounds.READERS_A_TURN + 1, 1}
    for connection in connections:
        connection.data_received(b"x" * (size // 2))
    await settled()
    assert [answers(connection) for connection in connections] == [[200]] * len(connections)


async def test_a_connection_that_ended_before_its_turn_is_not_read(port):
    connection = port.connect()
    connection.data_received(request(POST, _length(200_000)) + b"x" * 100_000)
    assert connection.transport.paused
    connection.transport.abort()
    await settled()
    assert connection.transport.paused


async def test_a_long_chunked_body_is_parsed_in_turns(port):
    """Chunks may be of one byte: what such a body costs is in the parsing, not in its size."""
    connection = port.connect()
    port.port.turns.parsing.owe(3600)
    connection.data_received(request(POST, CHUNKED, b"1\r\nx\r\n" * 10_000))
    await settled()
    assert connection.transport.paused
    assert connection._request._wire == 2 * bounds.CHUNK_PIECE
    assert port.calls == []


async def test_short_bodies_take_no_turns(port):
    port.port.turns.parsing.owe(3600)
    for headers, body in ((CHUNKED, b"200\r\n" + b"x" * 512 + b"\r\n0\r\n\r\n"), (_length(60_000), b"x" * 60_000)):
        connection = port.connect()
        connection.data_received(request(POST, headers, body))
        await settled()
        assert answers(connection) == [200]


# rejected connections


async def test_rejected_connections_are_read_in_turns(port):
    connection = port.connect()
    connection.data_received(b"no HTTP\r\n\r\n")
    await settled()
    port.port.turns.discarding.owe(3600)
    connection.data_received(b"x" * MIB)
    assert connection.transport.paused
    await settled()
    connection.data_received(b"x" * MIB)
    await settled()
    assert connection.transport.paused


async def test_of_many_rejected_connections_the_first_ones_are_aborted(port):
    connections = [port.connect() for _ in range(bounds.MAX_LINGERING + 2)]
    for connection in connections:
        connection.data_received(b"no HTTP\r\n\r\n")
    assert [connection.transport.aborted for connection in connections] == [True] * 2 + [False] * bounds.MAX_LINGERING
    connections[2].connection_lost(None)
    connections[2].transport.abort()
    port.connect().data_received(b"no HTTP\r\n\r\n")
    assert not connections[3].transport.aborted


@pytest.mark.parametrize(("received", "told"), [(100_000, 1), (20_000, 3)], ids=["large", "small"])
async def test_applications_give_up_large_bodies_in_turns_and_small_ones_at_once(port, received, told):
    """Each frees many megabytes; told all at once, they would block the event loop together."""
    connections = [port.connect() for _ in range(3)]
    for connection in connections:
        connection.data_received(request(POST, _length(MIB)) + b"x" * received)
    await settled()
    port.port.turns.giving_up.owe(3600)
    for connection in connections:
        connection.connection_lost(None)
    await settled()
    assert [len(body) for _, _, body, _ in port.calls] == [received] * told
    assert all(connection.cycle.disconnected for connection in connections)
