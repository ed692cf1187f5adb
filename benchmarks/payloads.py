"""What a typed payload costs per run, and per submit at a Job API that checks it; a plain handler is what it is compared with.

python -m benchmarks.payloads [RUNS]
"""

from __future__ import annotations

import json
import sys
import timeit
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pydantic

from sickbay import Job, handler
from sickbay.domain.job_type import TypeSchema
from sickbay.handlers.call import call_handler
from sickbay.handlers.registry import marks_of
from sickbay.job_types.schema import PayloadSchema
from sickbay.job_types.view import JobTypeView

RUNS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
ITEMS: Final = [{"name": f"item {number}", "price": number / 4} for number in range(10)]
PAYLOAD: Final = json.dumps({"to": "user@example.com", "subject": "Hello", "items": ITEMS}).encode()


@dataclass
class Item:
    """Of a dataclass."""

    name: str
    price: float


@dataclass
class AsDataclass:
    """Read by msgspec."""

    to: str
    subject: str
    items: list[Item]


class StructItem(msgspec.Struct):
    """Of a Struct."""

    name: str
    price: float


class AsStruct(msgspec.Struct):
    """Read by msgspec."""

    to: str
    subject: str
    items: list[StructItem]


class ModelItem(pydantic.BaseModel):
    """Of a model."""

    name: str
    price: float


class AsModel(pydantic.BaseModel):
    """Read by pydantic."""

    to: str
    subject: str
    items: list[ModelItem]


@handler("ignores")
def ignores(job: Job) -> None:
    """Does not even read its payload."""


@handler("reads")
def reads(job: Job) -> None:
    """Reads it as a dictionary."""
    _ = job.payload


@handler("dataclass")
def takes_dataclass(payload: AsDataclass) -> None:
    """Takes a dataclass."""


@handler("struct")
def takes_struct(payload: AsStruct) -> None:
    """Takes a Struct."""


@handler("model")
def takes_model(payload: AsModel) -> None:
    """Takes a model."""


def show(what: str, seconds: float, runs: int) -> None:
    """One line of the table."""
    print(f"{what:44} {seconds / runs * 1e6:8.2f} us")


def run(function: Any) -> None:
    """The call of a handler, with a new job as for each message."""
    (spec,) = marks_of(function)

    def once() -> None:
        call_handler(spec, Job("j", "x", PAYLOAD))

    show(f"run: {function.__name__}", min(timeit.repeat(once, number=RUNS, repeat=3)), RUNS)


def submit() -> None:
    """The check at the door: of a type without, and of one with a schema."""
    view = JobTypeView(None, None)
    show("submit: a type that is not checked", min(timeit.repeat(lambda: view.rejection("x", PAYLOAD), number=RUNS, repeat=3)), RUNS)
    schema = TypeSchema("x", json.dumps(AsModel.model_json_schema()).encode())
    compiled, runs = PayloadSchema(schema.schema_json), max(1, RUNS // 10)
    show("submit: a payload that fits", min(timeit.repeat(lambda: compiled.problems(PAYLOAD), number=runs, repeat=3)), runs)
    show("submit: a payload with a mistake", min(timeit.repeat(lambda: compiled.problems(b'{"to":1}'), number=runs, repeat=3)), runs)


if __name__ == "__main__":
    print(f"a payload of {len(PAYLOAD)} bytes")
    for one in (ignores, reads, takes_dataclass, takes_struct, takes_model):
        run(one)
    submit()
