"""Objects as payloads: what they are written as is read again, allowed by their own schema, and what is wrong is told with its path."""

from __future__ import annotations

import contextlib
import json
import pickle
import string
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.handlers.payloads import (
    PayloadMismatch,
    Problem,
    Unsupported,
    is_payload_object,
    job_type,
    job_type_of,
    path_of,
    payload_of,
    payload_type_of,
)
from sickbay.handlers.payloads.mismatch import MAX_PATH_CHARS
from sickbay.job_types.schema import PayloadSchema


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    S = 1
    L = 2


@dataclass
class Inner:
    name: str
    price: float | None = None


@dataclass
class Everything:
    """A dataclass with every kind of field that libraries agree about."""

    text: str
    number: int
    ratio: float
    yes: bool
    colour: Colour
    size: Size
    at: datetime
    day: date
    clock: time
    span: timedelta
    amount: Decimal
    key: UUID
    data: bytes
    inner: Inner
    items: list[Inner] = field(default_factory=list)
    by_name: dict[str, int] = field(default_factory=dict)
    by_key: dict[UUID, int] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    pair: tuple[int, str] = (1, "a")
    maybe: int | None = None
    mode: Literal["a", "b"] = "a"


class Struct(msgspec.Struct, rename="camel", tag=True):
    text: str
    inner: Inner
    at: datetime
    the_amount: Decimal
    number: int = 0


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    text: str
    number: int = pydantic.Field(alias="theNumber")
    colour: Colour
    at: datetime
    day: date
    span: timedelta
    amount: Decimal
    key: UUID
    items: list[Inner] = []
    labels: set[str] = set()
    maybe: int | None = None

    @pydantic.computed_field
    @property
    def length(self) -> int:
        """Is not read again, which `extra="forbid"` would reject."""
        return len(self.text)


@attrs.define
class Attrs:
    text: str
    inner: Inner
    key: UUID


texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(-(2**53), 2**53)
ratios = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.just(UTC))
spans = st.timedeltas(timedelta(days=-9999), timedelta(days=9999))
amounts = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9)
inners = st.builds(Inner, texts, st.none() | ratios)
everything = st.builds(
    Everything,
    text=texts,
    number=numbers,
    ratio=ratios,
    yes=st.booleans(),
    colour=st.sampled_from(Colour),
    size=st.sampled_from(Size),
    at=moments,
    day=st.dates(),
    clock=st.times(),
    span=spans,
    amount=amounts,
    key=st.uuids(),
    data=st.binary(max_size=20),
    inner=inners,
    items=st.lists(inners, max_size=3),
    by_name=st.dictionaries(texts, numbers, max_size=3),
    by_key=st.dictionaries(st.uuids(), numbers, max_size=3),
    labels=st.sets(texts, max_size=3),
    pair=st.tuples(numbers, texts),
    maybe=st.none() | numbers,
    mode=st.sampled_from(["a", "b"]),
)
structs = st.builds(Struct, text=texts, inner=inners, at=moments, the_amount=amounts, number=numbers)
models = st.builds(
    lambda number, **fields: Model(theNumber=number, **fields),
    number=numbers,
    text=texts,
    colour=st.sampled_from(Colour),
    at=moments,
    day=st.dates(),
    span=spans,
    amount=amounts,
    key=st.uuids(),
    items=st.lists(inners, max_size=3),
    labels=st.sets(texts, max_size=3),
    maybe=st.none() | numbers,
)
objects = everything | structs | models | st.builds(Attrs, texts, inners, st.uuids())


@given(objects)
def test_what_is_written_is_read_again_and_allowed_by_its_own_schema(value: Any):
    text = json.dumps(payload_of(value), allow_nan=False).encode()
    payload = payload_type_of(type(value))
    assert payload.decode(text) == value
    schema = PayloadSchema(json.dumps(payload.schema()).encode())
    assert [str(one) for one in schema.problems(text)] == []


@given(everything)
def test_a_dataclass_is_written_as_msgspec_writes_it(value: Everything):
    """Clients write it without msgspec, which they may not have."""
    theirs, ours = json.loads(msgspec.json.encode(value)), payload_of(value)
    for one in (theirs, ours):
        one["labels"].sort()
    assert json.loads(json.dumps(ours)) == theirs


names = st.text(string.ascii_letters + "_", min_size=1, max_size=5)


@given(st.lists(names | st.integers(0, 99) | texts, max_size=6))
def test_a_path_has_one_notation_and_is_bounded(steps: list[str | int]):
    path = path_of(steps)
    assert path.startswith("$")
    assert len(path) <= MAX_PATH_CHARS
    if all(isinstance(one, int) or (one.isascii() and one.isidentifier()) for one in steps):
        assert path == "$" + "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in steps)


def test_other_names_are_quoted():
    assert path_of(["a b", 'c"d', "e", 0]) == '$["a b"]["c\\"d"].e[0]'


@dataclass
class Line:
    price: float


@dataclass
class Order:
    to: str
    lines: list[Line] = field(default_factory=list)
    by_name: dict[str, Line] = field(default_factory=dict)


@dataclass
class Keyed:
    by_number: dict[int, int]


class LineModel(pydantic.BaseModel):
    price: float


class OrderModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    to: str
    lines: list[LineModel] = []
    either: LineModel | int = 0
    code: str = pydantic.Field(default="x", max_length=3)


MISTAKES = [
    (Order, {"to": 1}, ["$.to: expected a string, got an integer"]),
    (Order, {}, ["$.to: it is missing"]),
    (Order, {"to": "x", "lines": [{"price": 1}, {"price": "x"}]}, ["$.lines[1].price: expected a number, got a string"]),
    (Order, {"to": "x", "lines": [{}]}, ["$.lines[0].price: it is missing"]),
    (Order, {"to": "x", "by_name": {"a": {"price": None}}}, ["$.by_name[...].price: expected a number, got null"]),
    (Keyed, {"by_number": {"a": 1}}, ["$.by_number: a name in it: expected an integer, got a string"]),
    (OrderModel, {"to": 1}, ["$.to: expected a string, got a number"]),
    (OrderModel, {}, ["$.to: it is missing"]),
    (OrderModel, {"to": "x", "more": 1}, ["$.more: there is no such field"]),
    (OrderModel, {"to": "x", "code": "long"}, ["$.code: string should have at most 3 characters"]),
    (
        OrderModel,
        {"lines": [{"price": 1}, {"price": "x"}, 5]},
        [
            "$.to: it is missing",
            "$.lines[1].price: expected a number, got a string",
            "$.lines[2]: expected an object, got a number",
        ],
    ),
    (
        OrderModel,
        {"to": "x", "either": {"price": []}},
        ["$.either.price: expected a number, got a list", "$.either: expected an integer, got an object"],
    ),
]


@pytest.mark.parametrize(("cls", "payload", "told"), MISTAKES)
def test_mistakes_are_told_with_their_paths(cls, payload, told):
    with pytest.raises(PayloadMismatch) as caught:
        payload_type_of(cls).decode(json.dumps(payload).encode())
    assert [str(one) for one in caught.value.problems] == told


class Tagged(msgspec.Struct, tag="x"):
    a: int


class Other(msgspec.Struct, tag="y"):
    a: int


class Strict(msgspec.Struct):
    colour: Colour = Colour.RED
    size: Size = Size.S
    mode: Literal["a"] = "a"
    either: Tagged | Other | None = None
    at: datetime | None = None
    key: UUID | None = None
    amount: Decimal | None = None
    data: bytes = b""


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class StrictModel(pydantic.BaseModel):
    colour: Colour = Colour.RED
    mode: Literal["a"] = "a"
    either: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] | None = None
    at: datetime | None = None
    key: UUID | None = None
    amount: Decimal | None = None
    url: pydantic.HttpUrl | None = None
    size: int = pydantic.Field(default=1, lt=5)
    data: bytes = pydantic.Field(default=b"", max_length=3)


@pytest.mark.parametrize("cls", [Strict, StrictModel])
@pytest.mark.parametrize("name", ["colour", "size", "mode", "either", "at", "key", "amount", "data", "url"])
@pytest.mark.parametrize("value", ["hunter2", {"type": "hunter2", "kind": "hunter2"}, ["hunter2"], 4711])
def test_values_of_the_payload_are_not_told(cls, name, value):
    """They can be secret, and messages go into logs and lists."""
    try:
        payload_type_of(cls).decode(json.dumps({name: value}).encode())
    except PayloadMismatch as error:
        told = error.message
    else:
        return
    assert "hunter2" not in told
    assert "4711" not in told


def test_a_mismatch_can_be_pickled():
    error = PayloadMismatch([Problem("$.to", "it is missing")])
    restored = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (restored.code, restored.message, restored.problems) == ("VALIDATION_ERROR", "$.to: it is missing", error.problems)


def test_of_many_mistakes_the_first_are_in_the_message():
    with pytest.raises(PayloadMismatch) as caught:
        payload_type_of(OrderModel).decode(json.dumps({"to": "x", "lines": [{}] * 5}).encode())
    assert caught.value.message.endswith("$.lines[2].price: it is missing (and 2 more)")


@given(
    st.recursive(
        st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    )
)
def test_no_payload_raises_anything_else(payload: Any):
    for cls in (Order, OrderModel, Struct):
        with contextlib.suppress(PayloadMismatch):
            payload_type_of(cls).decode(json.dumps(payload).encode())


def test_a_dataclass_with_a_model_in_it_is_read_by_pydantic():
    @dataclass
    class Mixed:
        line: LineModel

    assert payload_type_of(Mixed).decode(b'{"line":{"price":"2"}}') == Mixed(LineModel(price=2))
    assert payload_of(Mixed(LineModel(price=2))) == {"line": {"price": 2.0}}


@pytest.mark.parametrize("value", [None, 5, "x", {}, [], Order, Colour.RED, object()])
def test_what_is_no_payload_object(value):
    assert not is_payload_object(value)


@pytest.mark.parametrize("cls", [int, str, dict, list[Order], Order | None, Colour])
def test_what_is_no_type_of_payloads(cls):
    with pytest.raises(Unsupported, match="a payload is a model of pydantic"):
        payload_type_of(cls)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Attrs("x", Inner(object()), UUID(int=1)), "an object of the class object"),
        (Order("x", by_name={object(): Line(1)}), "object"),
        (pydantic.RootModel[list[int]]([1]), "a payload must be an object"),
    ],
)
def test_what_cannot_be_written_says_so(value, why):
    with pytest.raises(TypeError, match=why):
        payload_of(value)


def test_a_class_says_its_job_type():
    @job_type("order")
    class Named(pydantic.BaseModel):
        to: str

    class Derived(Named):
        more: str = ""

    @job_type("line")
    class Own(Derived): ...

    assert [job_type_of(cls) for cls in (Named, Derived, Own, Order, "x")] == ["order", "order", "line", "", ""]
    with pytest.raises(ValueError, match="a job type must match"):
        job_type("Not A Name")
