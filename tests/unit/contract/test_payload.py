"""What a payload must be, as text and as a Struct."""

import json

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from sickbay.contract.payload import MAX_DEPTH, checked_text, struct_text
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.job import MAX_PAYLOAD_BYTES


@pytest.mark.parametrize(
    "text",
    ["{}", ' {"a": 1 }\n', '{"a":1,"a":2}', '{"n":12345678901234567890}', '{"s":"\\u00e9 é"}', '{"b":[true,false,null,1.5e3,-0]}'],
)
def test_text_is_kept_byte_for_byte(text):
    assert checked_text(text) == text.encode()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "not valid JSON"),
        ("nope", "not valid JSON"),
        ('{"a":', "not valid JSON"),
        ('{"a":NaN}', "(byte 5)"),
        ('{"a":Infinity}', "not valid JSON"),
        ('{"a":1} x', "(byte 9)"),
        ("\ufeff{}", "not valid JSON"),
        ('{"a":"\\ud800"}', "not valid JSON"),
        ("{'a':1}", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("1", "must be a JSON object"),
    ],
)
def test_bad_text_is_refused_with_advice(text, hint):
    with pytest.raises(InvalidArgument) as caught:
        checked_text(text)
    assert caught.value.reason is ErrorReason.INVALID_PAYLOAD
    assert hint in str(caught.value)


def test_the_limit_is_one_mebibyte_exactly():
    fits = '{"a":"' + "x" * (MAX_PAYLOAD_BYTES - 8) + '"}'
    assert len(checked_text(fits)) == MAX_PAYLOAD_BYTES
    with pytest.raises(InvalidArgument, match="at most 1,048,576") as caught:
        checked_text(fits.replace("x", "xx", 1))
    assert caught.value.reason is ErrorReason.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000, 150_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_depth_bombs_are_refused_cleanly(depth, pair):
    opening = '{"a":' if pair == "{}" else "["
    text = '{"a":' + opening * (depth - 1) + "1" + pair[1] * (depth - 1) + "}"
    with pytest.raises(InvalidArgument, match="nested too deep"):
        checked_text(text)


def test_an_unclosed_depth_bomb_is_refused_cleanly():
    with pytest.raises(InvalidArgument, match=r"nested too deep|not valid JSON"):
        checked_text('{"a":' + "[" * 500_000)


def test_the_allowed_depth_is_allowed():
    checked_text('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH)


def test_brackets_in_strings_and_side_by_side_are_not_depth():
    text = json.dumps({"a": "[" * 1000 + '\\"' + "{" * 1000, "b": [[] for _ in range(1000)], 'c\\"[': "\\"})
    assert checked_text(text) == text.encode()


def _depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((_depth(one) for one in inner), default=0)


LEAVES = st.none() | st.booleans() | st.text(alphabet='[]{}"\\a') | st.integers()
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\'), inner, max_size=3))


@given(TREES, st.integers(0, 2 * MAX_DEPTH))
def test_depth_is_judged_as_a_recursive_count_would(tree, wrap):
    """Law: a text is refused for its depth exactly if a naive recursive count says so."""
    text = '{"a":' * (wrap + 1) + json.dumps([tree] * 3) + "}" * (wrap + 1)
    depth = wrap + 2 + _depth(tree)
    if depth <= MAX_DEPTH:
        assert checked_text(text) == text.encode()
    else:
        with pytest.raises(InvalidArgument, match="nested too deep"):
            checked_text(text)


def _struct(content) -> Struct:
    struct = Struct()
    struct.update(content)
    return struct


def test_a_struct_becomes_compact_json_with_integers():
    text = struct_text(_struct({"a": 1.0, "b": [1.5, True, None, {"c": "é"}], "z": -0.0}))
    assert json.loads(text) == {"a": 1, "b": [1.5, True, None, {"c": "é"}], "z": 0}
    assert b"1.0" not in text
    assert b" " not in text
    assert struct_text(Struct()) == b"{}"


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**53 - 1])
def test_integers_up_to_2_to_the_53_pass(number):
    assert struct_text(_struct({"n": number})) == b'{"n":%d}' % number


@pytest.mark.parametrize("number", [2**53 + 2, -(2**53) - 2, 1e300])
def test_larger_integers_are_refused_with_the_way_out(number):
    with pytest.raises(InvalidArgument, match="payload_json") as caught:
        struct_text(_struct({"deep": [{"n": number}]}))
    assert caught.value.reason is ErrorReason.NUMBER_TOO_LARGE


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_json_cannot_write_are_refused(number):
    with pytest.raises(InvalidArgument, match="NaN") as caught:
        struct_text(_struct({"n": number}))
    assert caught.value.reason is ErrorReason.INVALID_PAYLOAD


def test_a_value_of_no_kind_is_refused():
    with pytest.raises(InvalidArgument, match="empty value"):
        struct_text(Struct(fields={"a": Value()}))


def test_a_large_or_deep_struct_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        struct_text(_struct({"a": "x" * MAX_PAYLOAD_BYTES}))
    assert caught.value.reason is ErrorReason.PAYLOAD_TOO_LARGE
    deep = inner = Struct()
    for _ in range(MAX_DEPTH):
        inner = inner.get_or_create_struct("a")
    with pytest.raises(InvalidArgument, match="nested too deep"):
        struct_text(deep)
