"""Payloads as they are sent."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.client import InvalidRequest
from sickbay.client.payload import payload_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES))
def test_a_mapping_survives(payload):
    assert json.loads(payload_text(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"a": [1, 2], "b": "ä"}, '{"a":[1,2],"b":"ä"}'),
        (MappingProxyType({"n": 2**64}), '{"n":18446744073709551616}'),
        ('{"a":  1}', '{"a":  1}'),
        (b'{"a":  1}', '{"a":  1}'),
        ("no JSON", "no JSON"),
    ],
)
def test_what_is_sent(payload, text):
    assert payload_text(payload) == text


LOOP: dict[str, object] = {}
LOOP["self"] = LOOP


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": {1, 2}}, LOOP, [1], None, b"\xff", {(1, 2): 3}])
def test_what_is_no_payload(payload):
    with pytest.raises(InvalidRequest) as caught:
        payload_text(payload)
    assert (caught.value.reason, caught.value.code) == ("INVALID_PAYLOAD", "INVALID_ARGUMENT")
