"""Payloads are checked by schemas that are not trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sickbay.domain.job_type import MAX_SCHEMA_BYTES
from sickbay.job_types.schema import MAX_DEPTH, MAX_PROBLEMS, PayloadSchema, UnusableSchema


def problems(schema: Any, payload: Any) -> list[str]:
    return [str(one) for one in PayloadSchema(json.dumps(schema).encode()).problems(json.dumps(payload).encode())]


ITEM = {"type": "object", "properties": {"price": {"type": ["number", "null"]}}, "required": ["price"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "payload", "found"),
    [
        ({"required": ["to"]}, {"to": 1}, []),
        ({"required": ["to"]}, {}, ["payload.to: it is missing"]),
        ({"properties": {"to": {"type": "string"}}}, {"to": 5}, ["payload.to: expected a string, got a number"]),
        ({"properties": {"items": {"items": ITEM}}}, {"items": [{"price": None}, {}]}, ["payload.items[1].price: it is missing"]),
        (
            {"properties": {"items": {"items": ITEM}}},
            {"items": [{"price": "x"}]},
            ["payload.items[0].price: expected a number or null, got a string"],
        ),
        ({"properties": {"a b": ITEM}}, {"a b": {"price": 1, "x": 2}}, ['payload["a b"].x: there is no such field']),
        ({"properties": {"n": {"maximum": 5}}}, {"n": 7}, ["payload.n: it is greater than the maximum of 5"]),
        ({"properties": {"n": {"type": "integer"}}}, {"n": 10**30}, []),
        ({"properties": {"at": {"format": "date-time"}}}, {"at": "2026-01-01T00:00:00"}, []),
        ({"anyOf": [ITEM, {"type": "null"}]}, {"price": "x"}, ["payload.price: expected a number or null, got a string"]),
        (
            {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
            {"a": 5},
            ["payload.a: it fits none of the allowed types"],
        ),
        ({"$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}, "$ref": "#/$defs/A"}, {"a": {"a": {}}}, []),
    ],
)
def test_what_is_wrong_is_told_with_its_path(schema, payload, found):
    assert problems(schema, payload) == found


def test_values_are_not_told():
    (found,) = problems({"properties": {"a": {"pattern": "^x"}}}, {"a": "secret"})
    assert "secret" not in found


def test_of_very_many_mistakes_the_first_are_told():
    assert len(problems({"properties": {"a": {"items": {"type": "string"}}}}, {"a": [1] * 100})) == MAX_PROBLEMS


def nested(levels: int) -> Any:
    return {"properties": {"a": nested(levels - 1)}} if levels else {}


def doubled(levels: int) -> Any:
    """Each level refers to the next one twice."""
    defs = {f"d{level}": {"allOf": 2 * [{"$ref": f"#/$defs/d{level + 1}"}]} for level in range(levels)}
    return {"$defs": {**defs, f"d{levels}": {}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "nonsense"}, r"\$\.type: it is not valid"),
        ([], "it is not an object"),
        ({"$ref": "http://localhost/x"}, "it refers to another document"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "it refers to another document"),
        ({"properties": {"a": {"pattern": "("}}}, r"\$\.properties\.a\.pattern: it is not a .regex"),
        (nested(MAX_DEPTH), "more than 100 levels deep"),
        (doubled(30), "more than 10,000 of its parts apply to one value"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "it has 65,5"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(schema, why):
    with pytest.raises(UnusableSchema, match=why):
        PayloadSchema(json.dumps(schema).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 10_000, b"\xff"])
def test_no_bytes_do_harm(text):
    with pytest.raises(UnusableSchema):
        PayloadSchema(text)


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}]
)
def test_a_schema_that_refers_to_itself_ends(schema):
    assert problems(schema, {"a": 1}) == []


@pytest.mark.parametrize("pattern", [r"^(?=(a|aa)+$)(a|aa)+\1b", r"^(?!a)"])
def test_a_pattern_that_could_backtrack_for_ever_is_not_checked_and_the_rest_is(pattern):
    """As pydantic's for decimals, which accepts what matters here."""
    schema = {"properties": {"a": {"pattern": pattern, "maxLength": 100}, "b": {"pattern": "^x$"}}}
    assert problems(schema, {"a": "a" * 60, "b": "x"}) == []
    assert len(problems(schema, {"a": "a" * 101, "b": "y"})) == 2


def test_a_pattern_without_end_ends():
    assert problems({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 100_000 + "b"}) != []


def test_of_a_large_payload_the_first_mistake_is_told():
    """Looking for all would keep the service busy, and everybody else waiting."""
    assert problems({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x"] * 10_000 + [1, 2]}) == [
        "payload.a[10000]: expected a string, got a number"
    ]
