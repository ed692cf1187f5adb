"""What a door accepts, a worker can read: from every way in to `job.payload`."""

import json
import math

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from sickbay.contract.payload import checked_text
from sickbay.contract.requests import content
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.job import MAX_DIGITS, Job
from sickbay.domain.payload import PayloadUnreadable
from sickbay.jobs.v1 import job_service_pb2, quarantine_service_pb2
from sickbay.messages.codec import decode_job, encode_job
from sickbay_cli.payload import check

DIGITS = st.text("0123456789", min_size=1, max_size=400)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.builds(lambda head, tail, e, sign: f"{head}.{tail}e{sign}{e}", DIGITS, DIGITS, st.integers(0, 500), st.sampled_from(["", "+", "-"])),
    st.builds(lambda head, e: f"{head}E{e}", DIGITS, st.integers(0, 2_000)),
    st.integers(4_290, 4_310).map(lambda count: "9" * count),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "-0", "-0.0", "1e400", "-1e400", "1e-400", "01", "+1", ".5", "1.", "0x10", "1_000"]),
)
STRINGS = st.one_of(
    st.text().map(json.dumps),
    st.text().map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.lists(
        st.sampled_from(["\\ud800", "\\udc00", "\\ud83d\\ude00", "\\\\", "\\u0000", "a", "\x7f", "\\\\ud800", "9" * 300, "1e999"])
    ).map(lambda parts: f'"{"".join(parts)}"'),
)
VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda some: f"[{','.join(some)}]"),
        st.lists(st.tuples(STRINGS, inner), max_size=4).map(lambda some: f"{{{','.join(f'{name}:{value}' for name, value in some)}}}"),
    ),
    max_leaves=8,
)
OBJECTS = st.lists(st.tuples(STRINGS, VALUES), max_size=4).map(lambda some: f"{{{','.join(f'{name}:{value}' for name, value in some)}}}")


def read(data):
    """As a handler does, on the other side of the queue; what it gets can be written again."""
    sent = decode_job(encode_job(Job("id", "email", data)), "", 0)
    payload = sent.payload
    json.dumps(payload, allow_nan=False, ensure_ascii=False).encode()
    assert sent.unreadable == ""
    return payload


def requests(text):
    """The messages of all methods that take a payload as text."""
    return [
        job_service_pb2.SubmitJobRequest(payload_json=text),
        job_service_pb2.BatchSubmitJobsRequest(requests=[job_service_pb2.SubmitJobRequest(payload_json=text)]).requests[0],
        quarantine_service_pb2.ResubmitJobRequest(payload_json=text),
    ]


@given(OBJECTS | VALUES | st.text())
def test_text_that_a_door_accepts_can_be_read(text):
    """Of SubmitJob, BatchSubmitJobs and ResubmitJob; REST hands its text to these. The command refuses nothing that they take."""
    for request in requests(text):
        try:
            data = content(request)
        except InvalidArgument:
            continue
        assert read(data) == json.loads(text)
        check(text)


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.text()),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_a_struct_that_a_door_accepts_can_be_read(value):
    """Of SubmitJob, with doubles that JSON cannot write."""
    struct = Struct()
    try:
        struct.update(value)
    except (UnicodeEncodeError, ValueError):
        return
    try:
        data = content(job_service_pb2.SubmitJobRequest(payload=struct))
    except InvalidArgument:
        return
    assert read(data) == json.loads(json.dumps(json_format.MessageToDict(struct)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"n":' + "9" * (MAX_DIGITS + 1) + "}", "an integer of 4,301 digits, at most 4,300 can be read; send it as a string"),
        ('{"n":-' + "9" * 1_000_000 + "}", "at most 4,300"),
        ('{"n":1e400}', "the number 1e400 is too large to be read"),
        ('{"n":[{"m":-1E+999}]}', "the number -1E+999 is too large"),
        ('{"n":' + "9" * 400 + ".5}", "is too large to be read"),
    ],
)
def test_a_number_that_nobody_can_read_is_refused(text, says):
    """It was accepted, and each such job failed with VALUE_ERROR and opened the circuit for everybody."""
    with pytest.raises(InvalidArgument) as caught:
        checked_text(text)
    assert says in str(caught.value)
    assert caught.value.reason is ErrorReason.NUMBER_TOO_LARGE


def test_the_command_refuses_it_in_its_own_words():
    """Before anything is sent."""
    with pytest.raises(ValueError, match="too long to be read; send it as a string"):
        check('{"n":' + "9" * 5_000 + "}")
    with pytest.raises(ValueError, match="not UTF-8"):
        check('{"n":"\udcff"}')


@pytest.mark.parametrize(
    "text", ['{"n":' + "9" * MAX_DIGITS + "}", '{"s":"' + "9" * 5_000 + '"}', '{"s":"1e999"}', '{"n":1.5e308}', '{"n":1e-999}']
)
def test_what_only_looks_so_is_accepted(text):
    """Digits in strings, and what is just within."""
    assert read(checked_text(text)) == json.loads(text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the payload is not JSON"),
        (b"{", "the payload is not JSON"),
        (b"[]", "the payload is not a JSON object"),
        (b'{"a":"\xff"}', "the payload is not UTF-8"),
        (b'{"n":' + b"9" * 5_000 + b"}", "more digits than Python reads"),
        (b'{"a":' * 100_000, "nested too deep"),
    ],
)
def test_a_payload_that_cannot_be_read_says_why_and_the_job_remembers(data, says):
    """It came from a foreign program, or from before the door knew."""
    job = Job("id", "email", data)
    assert job.unreadable == ""
    with pytest.raises(PayloadUnreadable, match=says):
        _ = job.payload
    assert says in job.unreadable
    assert math.isfinite(len(job.unreadable))
