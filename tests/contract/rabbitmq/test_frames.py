"""Whatever a publisher says beside a body, the driver can read what comes out of the filter; what it can read anyway is not touched."""

import struct
from datetime import UTC, datetime

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from sickbay.adapters.rabbitmq.frames import FrameFilter
from sickbay.adapters.rabbitmq.readable import MAX_HEADERS, legible_content, legible_delivery
from tests.support import rabbitmq_raw
from tests.support.rabbitmq_raw import frame, short, table, text

HEADER, METHOD = 2, 1
SIZE = 7


def content(**properties):
    """A content header's payload for a body of 7 bytes."""
    return rabbitmq_raw.content(SIZE, **properties)


def read(payload):
    """What the driver makes of a content header after the filter."""
    fed = FrameFilter().feed(frame(HEADER, payload))
    assert len(fed) == len(frame(HEADER, payload))
    _, _, header = pamqp.frame.unmarshal(fed)
    assert header.body_size == SIZE
    return header.properties


NEST = b"A" + struct.pack(">I", 0)
for _ in range(2_000):
    NEST = b"A" + struct.pack(">I", len(NEST)) + NEST

ODD = {
    "timestamp 2^64 - 1": content(message_id=short(b"m"), timestamp=b"\xff" * 8),
    "timestamp of milliseconds beyond all calendars": content(message_id=short(b"m"), timestamp=b"\x7f" + b"\xff" * 7),
    "correlation id not UTF-8": content(correlation_id=short(b"\xff\xfe"), message_id=short(b"m")),
    "header of a type nobody knows": content(headers=table((b"x", b"?abc")), message_id=short(b"m")),
    "header with a name not UTF-8": content(headers=table((b"\xff", text(b"v"))), message_id=short(b"m")),
    "header that is a time beyond all calendars": content(headers=table((b"t", b"T" + b"\xff" * 8)), message_id=short(b"m")),
    "header with a time in a table": content(headers=table((b"F", b"F" + table((b"t", b"T" + b"\xff" * 8)))), message_id=short(b"m")),
    "headers nested very deeply": content(headers=table((b"n", NEST)), message_id=short(b"m")),
    "header cut off": content(headers=table((b"x", b"I\x00")), message_id=short(b"m")),
}


@pytest.mark.parametrize("payload", ODD.values(), ids=ODD)
def test_what_cannot_be_read_is_left_out_and_the_id_is_still_there(payload):
    """The driver alone raises on each of these, and its connection is lost."""
    with pytest.raises(Exception, match=r".*"):
        pamqp.frame.unmarshal(frame(HEADER, payload))
    assert read(payload).message_id == "m"


def test_an_id_that_is_no_text_is_none():
    """Such a message is treated like one without an id."""
    assert read(content(message_id=short(b"\xff"), app_id=short(b"me"))).message_id is None
    assert read(content(message_id=short(b"\xff"), app_id=short(b"me"))).app_id == "me"


def test_headers_beside_one_that_cannot_be_read_stay():
    """A trace's context survives its neighbours."""
    headers = table((b"bad", b"T" + b"\xff" * 8), (b"traceparent", text(b"00-1")), (b"\xff", text(b"x")), (b"n", b"l" + bytes(8)))
    assert read(content(headers=headers)).headers == {"traceparent": "00-1", "n": 0}


def test_headers_without_end_are_cut_off():
    """A thousand headers would keep the loop busy for longer than the job."""
    headers = table(*((str(number).encode(), b"V") for number in range(10_000)))
    assert len(read(content(headers=headers)).headers) == MAX_HEADERS


@given(st.integers(0, 0xFFFF), st.binary(max_size=300))
def test_any_properties_at_all_can_be_read_afterwards(flags, data):
    """Whatever the flags promise and the bytes hold, the driver raises nothing."""
    read(struct.pack(">HHQH", 60, 0, 7, flags) + data)


_LEAF = st.one_of(
    st.sampled_from(
        [b"t\x01", b"V", b"\x00", b"b\xff", b"s\x00\x01", b"I\0\0\0\1", b"D\x02\0\0\0\7", b"d" + b"\xff" * 8, b"?", b"T" + b"\xff" * 8]
    ),
    st.binary(max_size=20).map(text),
    st.binary(max_size=12),
)
_VALUE = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: b"A" + struct.pack(">I", len(b"".join(items))) + b"".join(items)),
        st.lists(st.tuples(st.binary(max_size=6), inner), max_size=4).map(lambda items: b"F" + table(*items)),
    ),
)


@given(st.lists(st.tuples(st.binary(max_size=8), _VALUE), max_size=8), st.binary(max_size=9))
def test_any_headers_at_all_can_be_read_afterwards(entries, message_id):
    """Tables of every type, sound and broken, nested in each other."""
    read(content(headers=table(*entries), message_id=short(message_id), timestamp=bytes(8)))


_TEXT = st.text(max_size=40).filter(lambda found: len(found.encode()) < 200)
_PROPERTIES = st.builds(
    Basic.Properties,
    content_type=st.none() | _TEXT,
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    priority=st.none() | st.integers(0, 255),
    message_id=st.none() | _TEXT,
    timestamp=st.none() | st.integers(0, 4_000_000_000).map(lambda at: datetime.fromtimestamp(at, UTC)),
    headers=st.none()
    | st.dictionaries(_TEXT.filter(bool), _TEXT | st.integers(-(2**63), 2**63 - 1) | st.lists(_TEXT, max_size=3), max_size=5),
)


@given(_PROPERTIES)
def test_what_the_driver_can_read_is_not_touched(properties):
    """Every sound message arrives byte for byte."""
    payload = ContentHeader(0, 7, properties).marshal()
    assert legible_content(payload) is None


@given(st.lists(st.tuples(_PROPERTIES, st.binary(max_size=500)), max_size=5), st.lists(st.integers(1, 90), min_size=1, max_size=60))
def test_frames_come_out_as_they_went_in_whatever_the_pieces(messages, sizes):
    """Where the socket cuts the stream makes no difference, and nothing is kept back once a frame is complete."""
    stream = b""
    for number, (properties, body) in enumerate(messages):
        stream += pamqp.frame.marshal(Basic.Deliver("tag", number + 1, False, "jobs", "main"), 1)
        stream += pamqp.frame.marshal(ContentHeader(0, len(body), properties), 1)
        stream += pamqp.frame.marshal(ContentBody(body), 1) if body else b""
        stream += pamqp.frame.marshal(Heartbeat(), 0)
    assert fed(stream, sizes) == stream


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_what_is_no_amqp_goes_through(data, sizes):
    """The driver says best what is wrong with it."""
    stream = b"HTTP/1.1 400 Bad Request\r\n" + data
    assert fed(stream, sizes) == stream
    assert fed(b"AMQP\x00\x00\x09\x01", sizes) == b"AMQP\x00\x00\x09\x01"


def fed(stream, sizes):
    """The whole stream in pieces of these sizes, over and over."""
    through, out, position, turn = FrameFilter(), b"", 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        out += through.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    return out


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_names_in_a_delivery_that_are_no_text_can_be_read_afterwards(exchange, key):
    """A routing key below `job.` may be any bytes."""
    payload = b"\x00\x3c\x00\x3c" + short(b"ctag") + struct.pack(">QB", 200, 1) + short(exchange) + short(key)
    _, _, delivery = pamqp.frame.unmarshal(FrameFilter().feed(frame(METHOD, payload)))
    assert (delivery.consumer_tag, delivery.delivery_tag, delivery.redelivered) == ("ctag", 200, True)


def test_names_in_a_delivery_that_are_text_are_not_touched():
    """Umlauts are text."""
    payload = b"\x00\x3c\x00\x3c" + short(b"ctag") + struct.pack(">QB", 1, 0) + short(b"") + short("jöb".encode())
    assert legible_delivery(payload) is None
