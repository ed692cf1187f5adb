"""What a handler returned is kept as JSON, or a sentence says why not; nothing that it is or does gets further."""

import dataclasses
import datetime as dt
import enum
import json
import re
import sys
import time
import uuid
from collections import Counter, OrderedDict
from decimal import Decimal
from typing import NamedTuple

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.job import MAX_DIGITS
from sickbay.domain.result import MAX_RESULT_BYTES, Result
from sickbay.handlers.result import MAX_DEPTH, result_of


class Colour(enum.Enum):
    RED = "red"
    MANY = ("red", "blue")


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Order:
    number: int
    items: list
    _secret: str = "s"


class Point(msgspec.Struct, rename="camel", tag="point"):
    x_axis: int


class Model(pydantic.BaseModel):
    at: dt.datetime
    inner: list[int] = []


class Moment(dt.datetime):
    """A subclass, as pandas has one."""


class LyingText(str):
    __slots__ = ()

    def __len__(self):
        return 0

    def __str__(self):
        raise KeyboardInterrupt


class Pair(NamedTuple):
    a: int
    b: int


UTC = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
NUMBER = uuid.UUID(int=7)


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("returned", "kept"),
    [
        (True, True),
        (0, 0),
        (-1.5, -1.5),
        ("", ""),
        ("a\0\u2028\U0001f600", "a\0\u2028\U0001f600"),
        ({}, {}),
        ([], []),
        ({"a": [1, None, {"b": (2, 3)}]}, {"a": [1, None, {"b": [2, 3]}]}),
        ({1: "x", Level.LOW: "y", NUMBER: 1, Colour.RED: 2}, {"1": "y", str(NUMBER): 1, "red": 2}),
        (OrderedDict(a=Counter("aab")), {"a": {"a": 2, "b": 1}}),
        (Pair(1, 2), [1, 2]),
        ({5}, [5]),
        (frozenset({5}), [5]),
        (Colour.MANY, ["red", "blue"]),
        ([Level.LOW, Colour.RED], [1, "red"]),
        (Order(7, [Point(3)]), {"number": 7, "items": [{"type": "point", "xAxis": 3}]}),
        (Model(at=UTC, inner=[1]), {"at": "2026-01-02T03:04:05Z", "inner": [1]}),
        ([UTC, UTC.date(), dt.time(1, 2), dt.timedelta(days=1)], ["2026-01-02T03:04:05Z", "2026-01-02", "01:02:00", "P1D"]),
        (Moment(2026, 1, 2), "2026-01-02T00:00:00"),
        (NUMBER, str(NUMBER)),
        (Decimal("1.50"), "1.50"),
        (b"abc", "YWJj"),
        (2**70, 2**70),
        (int("9" * MAX_DIGITS), int("9" * MAX_DIGITS)),
        (LyingText("abc"), "abc"),
        (nested(MAX_DEPTH), nested(MAX_DEPTH)),
        ("x" * (MAX_RESULT_BYTES - 2), "x" * (MAX_RESULT_BYTES - 2)),
    ],
    ids=lambda value: repr(value)[:20] if type(value) is not LyingText else "lying text",
)
def test_what_is_kept(returned, kept):
    result = result_of(returned)
    assert result.note == ""
    assert json.loads(result.json) == kept


def test_none_is_no_result():
    assert result_of(None) is None


class Evil:
    """A dataclass by its looks, of which each field raises."""

    __dataclass_fields__ = Order.__dataclass_fields__

    def __getattr__(self, name):
        raise SystemExit(3)

    __iter__ = __str__ = __repr__ = __bool__ = __hash__ = __eq__ = lambda *_: 1 / 0


class Endless:
    """Each has another one in it."""

    __dataclass_fields__ = Order.__dataclass_fields__

    number = items = property(lambda self: [Endless()] * 2)


def circle():
    ring = {}
    ring["again"] = ring
    return ring


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (object(), "has an object of the class object"),
        ([1, {"a": Evil}], "has an object of the class type"),
        (Evil(), "reading it raised SystemExit"),
        (Endless(), "(64 KiB|65,536 bytes|levels deep)"),
        (circle(), "more than 200 levels deep, or contains itself"),
        (nested(MAX_DEPTH + 1), "more than 200 levels deep"),
        (nested(50_000), "more than 200 levels deep"),
        (float("nan"), "has the number nan, which JSON does not have"),
        ({"a": float("-inf")}, "has the number -inf"),
        ("half \ud800 pair", "a character that UTF-8 does not have"),
        ({"\udfff": 1}, "a character that UTF-8 does not have"),
        (10 ** (MAX_DIGITS + 1), "an integer of more than 4,300 digits"),
        ({(1, 2): 3}, "has a key of the class tuple"),
        ({None: 3}, "has a key of the class NoneType"),
        ((one for one in [1]), "has an object of the class generator"),
        ("\u00e9" * 40_000, "the result has 80,002 bytes of JSON; at most 65,536 are kept"),
        ("x" * (MAX_RESULT_BYTES - 1), "the result has more than 65,536 bytes of JSON"),
        ({"a": ["x" * 70_000]}, "the result has more than 65,536 bytes of JSON"),
    ],
    ids=range(18),
)
def test_what_is_not_kept_has_a_sentence(returned, says):
    result = result_of(returned)
    assert result.json == b""
    assert re.search(says, result.note), result.note


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 200_000_000,
        lambda: b"x" * 200_000_000,
        lambda: range(5_000_000),
        lambda: list(range(5_000_000)),
        lambda: [[]] * 5_000_000,
        lambda: dict.fromkeys(range(2_000_000)),
        lambda: 1 << 80_000_000,
        lambda: Decimal((0, (9,) * 1_000_000, 0)),
        lambda: Model.model_construct(at=UTC, inner=list(range(5_000_000))),
    ],
    ids=["text", "bytes", "range", "numbers", "lists", "keys", "integer", "decimal", "model"],
)
def test_a_huge_result_costs_no_more_than_a_small_one(make):
    """In CPU time, so that what else runs on the machine does not matter: walking through all of the numbers takes several seconds."""
    returned = make()
    began = time.thread_time()
    result = result_of(returned)
    assert time.thread_time() - began < 1.5
    assert result.json == b""
    assert result.note


def test_pydantic_is_not_imported_for_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "pydantic")
    assert "class Model" in result_of(Model(at=UTC)).note
    assert "pydantic" not in sys.modules


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.text(st.characters(categories=["Cs", "Ll"])),
        st.binary(),
        st.decimals(),
        st.datetimes(),
        st.uuids(),
        st.sampled_from([Colour.MANY, Level.LOW, Order(1, []), Point(1), Model(at=UTC), object()]),
        st.builds(lambda make: make(), st.sampled_from([Evil, lambda: LyingText("a")])),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.booleans(), st.none()), inner),
        st.tuples(inner, inner),
        st.builds(Order, st.integers(), st.lists(inner)),
    ),
)


@pytest.mark.no_cover  # many examples; shorter tests cover the same
@given(anything)
def test_whatever_is_returned_there_is_json_or_a_sentence(returned):
    result = result_of(returned)
    if returned is None:
        assert result is None
    elif result.note:
        assert result == Result(note=result.note)
    else:
        json.loads(result.json)
        assert len(result.json) <= MAX_RESULT_BYTES
        msgspec.json.decode(b'{"r":' + result.json + b"}", type=dict[str, msgspec.Raw])


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@pytest.mark.no_cover  # as above
@given(plain.filter(lambda value: value is not None))
def test_plain_json_is_kept_as_it_is(returned):
    assert json.loads(result_of(returned).json) == returned
