"""What a worker announces of its job types."""

import json
from dataclasses import dataclass
from typing import Annotated

import msgspec
import pydantic
import pytest

from sickbay import Job, handler, job_type
from sickbay.domain.job_type import MAX_SCHEMA_BYTES
from sickbay.handlers.registry import HandlerMistake, marks_of
from sickbay.handlers.type_schemas import schemas_of


@job_type("email")
@dataclass
class Email:
    to: str


def announced(function, name="email", **options):
    handler(name, **options)(function)
    return schemas_of(marks_of(function))


def test_a_typed_handler_is_described():
    def send(payload: Email) -> None:
        """Send an e-mail.

        And more that is not told.
        """

    (found,) = announced(send, validate="submit")
    assert (found.job_type, found.on_submit, found.description) == ("email", True, "Send an e-mail.")
    assert found.handler.endswith("test_type_schemas.test_a_typed_handler_is_described.<locals>.send")
    assert json.loads(found.schema_json)["$defs"]["Email"]["required"] == ["to"]


def test_the_digest_changes_with_everything_that_is_said():
    def send(payload: Email) -> None: ...

    first, again, checked = announced(send)[-1], announced(send)[-1], announced(send, validate="submit")[-1]
    assert first.key == again.key != checked.key


def test_a_plain_handler_is_not():
    assert announced(lambda job: None) == []


def test_what_is_called_by_another_name_has_no_description():
    class Sender:
        """Not of the handler."""

        def __call__(self, job: Job[Email]) -> None: ...

    (found,) = announced(Sender())
    assert (found.description, found.handler) == ("", "")


def test_a_schema_that_is_too_large_is_not_announced(caplog):
    class Large(pydantic.BaseModel):
        to: str = pydantic.Field(description="x" * MAX_SCHEMA_BYTES)

    def send(payload: Large) -> None: ...

    assert announced(send) == []
    assert "the JSON Schema of Large has 65" in caplog.text


def test_a_class_without_a_schema_is_not_announced_but_runs(caplog):
    class Odd(pydantic.BaseModel):
        what: Annotated[int, pydantic.PlainValidator(int), pydantic.WithJsonSchema({"type": "integer"})]
        call: Annotated[object, pydantic.PlainValidator(lambda value: value)]

        @classmethod
        def __get_pydantic_json_schema__(cls, schema, handler):
            raise ValueError("it has none")

    def send(payload: Odd) -> None: ...

    assert announced(send) == []
    assert "Odd has no JSON Schema: it has none" in caplog.text


class Letter(msgspec.Struct):
    pages: int


@pytest.mark.parametrize(
    ("annotation", "options", "message"),
    [
        (Email, {}, "the handler of 'letter' takes Email, whose job type is 'email': make them the same"),
        (Job[Email], {}, "whose job type is 'email'"),
        (Letter, {"validate": "always"}, 'validate must be "run" or "submit", not \'always\''),
        (Letter, {"validate": ["submit"]}, 'validate must be "run" or "submit"'),
        (Job, {"validate": "submit"}, 'says validate="submit", but not what its payload is: annotate its parameter'),
    ],
)
def test_what_cannot_be_meant(annotation, options, message):
    def send(job: annotation) -> None: ...

    with pytest.raises(HandlerMistake) as caught:
        handler("letter", **options)(send)
    assert message in str(caught.value)
