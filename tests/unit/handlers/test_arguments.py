"""What a handler is called with, by its signature: the job, its payload as an object, or both."""

import functools
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from sickbay import Job, JobError, handler
from sickbay.handlers.registry import HandlerMistake
from sickbay.testing import make_job, run, run_async

if TYPE_CHECKING:
    from decimal import Decimal as Elsewhere
    from fractions import Fraction as SomeJob


@dataclass
class Email:
    to: str
    copies: int = 1


class Model(pydantic.BaseModel):
    to: str


class Struct(msgspec.Struct):
    to: str


@attrs.define
class Attrs:
    to: str


class Typed(TypedDict):
    to: str


class Holder:
    """A callable object, and a method."""

    def __call__(self, payload: Email) -> object:
        return payload

    def method(self, payload: Email) -> object:
        return payload


def got(function, payload=None, job_type="email"):
    """What the handler gets, and returns, as its first argument."""
    kept = []
    handler(job_type)(function)
    marked = handler(job_type)(lambda job: kept.append(marks_of_any(function).call(job)))
    result = run(marked, payload if payload is not None else {"to": "x"})
    assert result.succeeded, result
    return kept[0]


def marks_of_any(function):
    from sickbay.testing.jobs import _marked_in_modules

    return _marked_in_modules(function)[-1]


@pytest.mark.parametrize(("cls", "of"), [(Email, "to"), (Model, "to"), (Struct, "to"), (Attrs, "to")])
def test_a_payload_is_an_object_of_the_class(cls, of):
    def send(payload: cls) -> object:
        return payload

    def send_job(job: Job[cls]) -> object:
        return job

    assert got(send) == cls(to="x")
    job = got(send_job)
    assert (job.payload, job.job_type) == (cls(to="x"), "email")


def test_a_payload_can_be_a_typed_dictionary():
    def send(payload: Typed) -> object:
        return payload

    assert got(send) == {"to": "x"}


def test_annotations_can_be_texts_that_name_what_is_local():
    @dataclass
    class Local:
        to: str

    @handler("email")
    def send(payload: "Local", job: "Job") -> str:
        return payload.to + job.job_type

    assert run(send, {"to": "x"}).result == "xemail"


def test_both_the_payload_and_the_job():
    def send(payload: Email, job: Job) -> object:
        return payload, job.job_type

    def send_by_name(payload: Email, /, *, job: Job[Any]) -> object:
        return payload, job.job_type

    def send_optionally(payload: Email, job: Job | None = None) -> object:
        return payload, job.job_type

    assert got(send) == got(send_by_name) == got(send_optionally) == (Email("x"), "email")


def plain(job: Job) -> object:
    return job


def of_dictionary(job: Job[dict[str, Any]]) -> object:
    return job


def of_anything(job: Job[Any]) -> object:
    return job


def of_number(job: int) -> object:
    return job


def nowhere(job: "Elsewhere") -> object:
    return job


def under_type_checking(job: "SomeJob") -> object:
    return job


def optional(job: Job | None = None) -> object:
    return job


def bare(job):
    return job


def rest(*jobs):
    return jobs[0]


def wraps_with_own(function):
    @functools.wraps(function)
    def wrapper(payload):
        return payload

    return wrapper


def passes_on(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def send_email(payload: Email) -> object:
    return payload


@pytest.mark.parametrize(
    "function",
    [plain, of_dictionary, of_anything, of_number, nowhere, under_type_checking, optional, bare, rest, wraps_with_own(send_email)],
)
def test_everything_else_gets_the_job_itself(function):
    """What worked before still does, at no cost: the function itself is called."""
    assert isinstance(got(function), Job)
    assert marks_of_any(function).call is function


@pytest.mark.parametrize("function", [functools.partial(lambda n, payload: payload, 1), functools.partial(bare), passes_on(bare), abs])
def test_what_is_not_annotated_gets_the_job(function):
    handler("email")(function)
    assert marks_of_any(function).arguments.payload is None


def scaled(factor: int, payload: Email) -> object:
    return payload


@pytest.mark.parametrize("function", [Holder(), Holder().method, Holder().__call__, passes_on(send_email), functools.partial(scaled, 3)])
def test_objects_methods_and_decorated_functions_have_annotations_too(function):
    assert got(function) == Email("x")


def test_a_union_takes_each_of_its_types():
    class Sms(pydantic.BaseModel):
        number: int

    def send(payload: Annotated[Model | Sms, "either"]) -> object:
        return payload

    assert got(send) == Model(to="x")
    assert got(send, {"number": 1}) == Sms(number=1)


def test_an_async_handler_gets_its_payload_too():
    @handler("email")
    async def send(job: Job[Model]) -> str:
        return job.payload.to

    assert run(send, {"to": "x"}).result == "x"


def test_an_unresolvable_type_is_logged_unless_it_may_be_the_job(caplog):
    handler("email")(nowhere)
    handler("email")(under_type_checking)
    (record,) = caplog.records
    assert "Elsewhere, cannot be resolved" in record.getMessage()


def test_a_job_of_an_unresolvable_type_is_a_mistake():
    def send(job: "Job[Elsewhere]") -> None: ...

    with pytest.raises(HandlerMistake, match=r"takes a Job\[Elsewhere\], which cannot be resolved: define or import Elsewhere above it"):
        handler("email")(send)


def test_a_job_of_something_that_is_no_payload_is_a_mistake():
    def send(job: Job[int]) -> None: ...

    with pytest.raises(HandlerMistake, match="takes a payload of the type int: a payload is a model of pydantic"):
        handler("email")(send)


def test_a_class_that_its_library_cannot_read_is_a_mistake():
    @dataclass
    class Odd:
        what: complex

    def send(payload: Odd) -> None: ...

    with pytest.raises(HandlerMistake, match="takes a payload of the type Odd: msgspec cannot read it"):
        handler("email")(send)


def test_further_parameters_that_nothing_fills_are_a_mistake():
    def send(payload: Email, smtp: int) -> None: ...

    with pytest.raises(HandlerMistake, match=r"is called with the payload and nothing else, but takes \(payload, smtp\)"):
        handler("email")(send)


def test_a_payload_of_another_type_is_quarantined_at_once_and_says_where():
    def send(payload: Email) -> None:
        raise AssertionError("must not run")

    handler("email")(send)
    result = run(send, {"to": 5})
    assert (result.code, result.kind, result.goes_to) == ("VALIDATION_ERROR", "data", "quarantine")
    assert (result.message, result.traceback) == ("$.to: expected a string, got an integer", "")


def test_the_retries_of_a_mismatch_can_be_set():
    @handler("email", retries={"VALIDATION_ERROR": 2})
    def send(payload: Email) -> None: ...

    assert run(send, {}).will_retry


@pytest.mark.parametrize("text", [b"[1]", b"{", b'{"to":"\xff"}', b"null"])
@pytest.mark.parametrize("cls", [Email, Model])
def test_what_is_no_object_at_all_is_unreadable_as_before(cls, text):
    def send(payload: cls) -> None: ...

    handler("email")(send)
    assert run(send, text).code == "PAYLOAD_UNREADABLE"


def test_what_a_validator_raises_is_classified_as_if_the_handler_had_raised_it():
    class Checked(pydantic.BaseModel):
        to: str

        @pydantic.field_validator("to")
        @classmethod
        def check(cls, to):
            raise JobError("API_TIMEOUT", "the directory does not answer") if to == "x" else ValueError("no such address")

    @handler("email")
    def send(payload: Checked) -> None: ...

    assert (run(send, {"to": "x"}).code, run(send, {"to": "x"}).kind) == ("API_TIMEOUT", "systemic")
    assert run(send, {"to": "y"}).message == "$.to: value error, no such address"


async def test_values_of_the_payload_are_not_in_the_message():
    """A payload can be secret, and messages go to logs and lists."""

    @handler("email")
    async def send(payload: Model) -> None: ...

    result = await run_async(send, {"to": {"password": "hunter2"}})
    assert result.message == "$.to: expected a string, got an object"


def test_a_job_of_a_type_behaves_like_any_other():
    job = Job[Email]("j", "email", b'{"to": "x"}')
    assert type(job) is Job
    assert job == Job("j", "email", b'{"to": "x"}') == pickle.loads(pickle.dumps(job))  # noqa: S301 - our own
    assert job.payload == {"to": "x"}
    assert replace(job, attempt=1).payload == {"to": "x"}
    assert not hasattr(make_job("email"), "__dict__")
