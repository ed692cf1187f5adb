"""Messages as strangers may send them: bodies, properties, headers, all of which must harm no other message."""

import json
import struct

from hypothesis import strategies as st

from sickbay.domain.job import JobState
from tests.support.rabbitmq_raw import JAVAS_MINUS_ONE, short, table, text

BODIES = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    ).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"jobType": st.sampled_from(["email", "", "\0", "A"])},
        optional={
            "jobId": st.sampled_from(["x", "", "\0", "y" * 64, "y" * 65, "ü\n"]),
            "state": st.sampled_from([*(state.value for state in JobState), "NO"]),
            "payload": st.sampled_from([{}, {"a": 1}, [], None, "x"]),
            "tenant": st.sampled_from(["default", "", "\0"]),
            "generation": st.sampled_from([0, 5, 10**9, 2**31, 2**63, -1, 1.5]),
            "attempt": st.sampled_from([0, 5, 10**9, 2**31, 2**63, -1]),
            "at": st.sampled_from([0, 10**14, 2**63, -1]),
            "startedAt": st.sampled_from([None, 0, 10**14, 2**64]),
            "submittedAt": st.sampled_from([0, 10**14, 2**70]),
            "errors": st.sampled_from([[], [{"time": 1, "attempt": 0, "code": "\0", "message": "\0"}] * 40, [{}], 5]),
            "run": st.sampled_from(["", "\0", "r" * 9_000]),
            "actor": st.sampled_from(["", "\0"]),
            "code": st.sampled_from(["", "\0", "C" * 9_000]),
            "message": st.sampled_from(["", "\0", "m" * 90_000]),
            "reason": st.sampled_from([None, "BROKER", "NO"]),
            "trace": st.sampled_from(["", "\0"]),
            "duplicate": st.booleans(),
        },
    ).map(lambda value: json.dumps(value).encode()),
)

_VALUES = st.one_of(
    st.sampled_from(
        [b"V", b"t\x01", b"I\x80\0\0\0", b"l" + JAVAS_MINUS_ONE, b"T" + JAVAS_MINUS_ONE, b"D\xff\x7f\xff\xff\xff", b"d\x7f\xf8" + bytes(6)]
    ),
    st.binary(max_size=12).map(text),
    st.binary(max_size=12).map(lambda data: b"x" + struct.pack(">I", len(data)) + data),
    st.just(b"F" + table((b"at", b"T" + JAVAS_MINUS_ONE), (b"\xff", b"V"))),
    st.just(b"A" + struct.pack(">I", 10) + b"VT" + JAVAS_MINUS_ONE[:7] + b"\0"),
)
_NAMES = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"swept", b"traceparent", b"tracestate", b"CC-", b"x-deat"]))
_SHORTS = st.binary(max_size=20).map(short)

PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": _SHORTS,
        "content_encoding": st.sampled_from([short(b"gzip"), short(b"\xff")]),
        "headers": st.lists(st.tuples(_NAMES, _VALUES), max_size=4).map(lambda entries: table(*entries)),
        "delivery_mode": st.sampled_from([b"\x01", b"\x02"]),
        "priority": st.sampled_from([b"\x00", b"\xff"]),
        "correlation_id": _SHORTS,
        "reply_to": _SHORTS,
        "message_id": st.one_of(_SHORTS, st.just(short(b"a\0b")), st.just(short(b"\xff\xfe"))),
        "timestamp": st.sampled_from([JAVAS_MINUS_ONE, bytes(8), b"\x7f" + b"\xff" * 7]),
        "type": _SHORTS,
        "app_id": _SHORTS,
        "cluster_id": _SHORTS,
    },
)
"""Of a message in AMQP, as bytes."""
