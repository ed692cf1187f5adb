"""What cannot be a handler is refused where it stands, with a sentence that says what to write."""

import functools
import math

import pytest

from sickbay import JobError, handler
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.retry import RetryOptions
from sickbay.handlers.classify import classify
from sickbay.handlers.registry import MARK, HandlerMistake, HandlerSpec


def spec_of(function):
    return getattr(function, MARK)[-1]


class Callable:
    def __call__(self, job):
        return job


class Slotted:
    __slots__ = ()

    async def __call__(self, job): ...


class Class:
    def method(self, job): ...


def two(job, db): ...
def keyword(job, *, db): ...
def nothing(): ...
def generator(job):
    yield


async def async_generator(job):
    yield


def defaults(job, db=None, *rest, more=1, **options): ...


@functools.wraps(two)
def injecting(job):
    return two(job, 1)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (two, "the handler of 'a' is called with the job and nothing else, but takes (job, db); write def two(job)"),
        (keyword, "takes (job, *, db)"),
        (nothing, "takes ()"),
        (lambda *, job: None, "write def run(job)"),
        (generator, "is a generator, which would not run"),
        (async_generator, "is a generator"),
        (functools.partial(generator), "is a generator"),
        (functools.partial(two, 1, 2), "is called with the job"),
        (Class, "is the class Class; make it a function, or mark an instance: handler('a')(Class())"),
        (Class.method, "is a method; make it a function of the module"),
        (staticmethod(two), "is a method"),
        (classmethod(two), "is a method"),
        (None, "is None"),
        (5, "is 5"),
        (type("Yields", (), {"__call__": lambda self, job: (yield)})(), "is a generator"),
    ],
)
def test_what_cannot_be_called_with_one_job_is_refused(function, says):
    """It used to be TYPE_ERROR for each job, or a success of something that never ran."""
    with pytest.raises(HandlerMistake) as caught:
        handler("a")(function)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [defaults, injecting, lambda job: None, lambda *jobs: None, Callable(), Slotted(), Class().method, functools.partial(two, db=1), print],
)
def test_whatever_can_be_called_with_one_job_is_a_handler(function):
    """Functions, partials, instances, bound methods; what a decorator wraps does not matter."""
    assert handler("a")(function) is function


@pytest.mark.parametrize("wrong", [two, Class, staticmethod(two), functools.partial(two)])
def test_the_parentheses_are_missing(wrong):
    """`@handler` alone gets the function for the job type."""
    with pytest.raises(HandlerMistake, match=r'write @handler\("email"\)'):
        handler(wrong)


@pytest.mark.parametrize("job_type", ["", "Email", "e mail", "-a", "a" * 65, "é", "a\n", None, 5, b"a", ["a"]])
def test_a_job_type_that_no_job_can_have(job_type):
    """The pattern is in the sentence."""
    with pytest.raises(HandlerMistake, match="a job type must match"):
        handler(job_type)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": 1_500.1}, "at most 1500 seconds"),
        ({"timeout": math.nan}, "timeout"),
        ({"timeout": math.inf}, "timeout"),
        ({"timeout": "30"}, "not '30'"),
        ({"timeout": True}, "timeout"),
        ({"timeout": [1]}, "timeout"),
        ({"concurrency": 0}, "concurrency must be a whole number and at least 1"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": "5"}, "concurrency"),
        ({"codes": {KeyError: "lower"}}, "an error code must be 1 to 48 of A-Z, 0-9 and _, not 'lower' in codes"),
        ({"codes": {KeyError: 5}}, "error code"),
        ({"codes": {"KeyError": "A"}}, "the keys of codes must be exception classes"),
        ({"codes": {KeyError(): "A"}}, "exception classes"),
        ({"codes": {int: "A"}}, "exception classes"),
        ({"codes": [KeyError]}, "codes must be a dictionary"),
        ({"kinds": {"OK": "nonsense"}}, "a kind must be one of systemic, transient, data, unknown, not 'nonsense'"),
        ({"kinds": {"OK": "success"}}, "a kind must be one of"),
        ({"kinds": {"OK": OutcomeKind.CANCELLED}}, "a kind must be one of"),
        ({"kinds": {"OK": None}}, "a kind must be one of"),
        ({"kinds": {"ok": "data"}}, "error code"),
        ({"kinds": {5: "data"}}, "exception classes or error codes"),
        ({"kinds": "data"}, "kinds must be a dictionary"),
        ({"retries": {"with blank": 1}}, "error code"),
        ({"retries": {"A": -1}}, "retries of A must be a whole number from 0"),
        ({"retries": {"A": 1.0}}, "retries of A"),
        ({"retries": {"A": True}}, "retries of A"),
        ({"retries": {"A": "3"}}, "retries of A"),
        ({"retries": 3}, "retries must be a dictionary"),
        ({"retry": 3}, "retry must be a dictionary"),
        ({"retry": {"maximum": 3}}, "'maximum' is no key of retry; known are max, delay, backoff, max_delay, jitter"),
        ({"retry": {3: 3}}, "3 is no key of retry"),
        ({"retry": {"max": 101}}, "max of retry must be a whole number from 0 to 100, not 101"),
        ({"retry": {"max": 1.0}}, "max of retry must be a whole number"),
        ({"retry": {"max": True}}, "max of retry"),
        ({"retry": {"delay": -1}}, "delay of retry must be a number from 0 to 86,400 seconds, not -1"),
        ({"retry": {"delay": "5s"}}, "not '5s'"),
        ({"retry": {"delay": None}}, "delay of retry"),
        ({"retry": {"max_delay": math.nan}}, "max_delay of retry"),
        ({"retry": {"backoff": 0.9}}, "backoff of retry must be a number from 1 to 10, not 0.9"),
        ({"retry": {"jitter": 1.01}}, "jitter of retry must be a number from 0 to 1"),
    ],
)
def test_options_that_cannot_be_meant(options, says):
    """Each says what it can be."""
    with pytest.raises(HandlerMistake) as caught:
        handler("a", **options)
    assert says in str(caught.value)


def test_an_option_that_is_none():
    """As of every function."""
    with pytest.raises(TypeError, match="retrys"):
        handler("a", retrys=3)


def test_how_jobs_are_retried():
    """Seconds become milliseconds, and the retries of single codes are kept with the rest."""
    retry = {"max": 5, "delay": 0.25, "backoff": 2, "max_delay": 600, "jitter": 0.5}
    function = handler("a", retry=retry, retries={"GONE": 0})(lambda job: None)
    assert spec_of(function).retry == RetryOptions(5, 250, 2, 600_000, 0.5, {"GONE": 0})
    assert spec_of(handler("a")(lambda job: None)).retry == RetryOptions()


def test_options_are_as_they_were_when_they_were_given():
    """A dictionary that changes afterwards changes no handler."""
    kinds = {"A": "data"}
    function = handler("a", kinds=kinds)(lambda job: None)
    kinds["A"] = "nonsense"
    assert spec_of(function).kinds == {"A": OutcomeKind.DATA}


def test_kinds_may_be_said_of_classes():
    """The nearest class, also of known exceptions; a code is more exact."""
    function = handler("a", kinds={LookupError: "systemic", IndexError: "transient", "KEY_ERROR": "unknown", TimeoutError: "data"})(
        lambda job: None
    )
    spec = spec_of(function)
    assert isinstance(spec, HandlerSpec)
    assert [classify(error, spec).kind for error in (LookupError(), IndexError(), KeyError(), TimeoutError(), ValueError())] == [
        OutcomeKind.SYSTEMIC,
        OutcomeKind.TRANSIENT,
        OutcomeKind.UNKNOWN,
        OutcomeKind.DATA,
        OutcomeKind.DATA,
    ]
    assert classify(ExceptionGroup("g", [ValueError(), IndexError()]), spec).kind is OutcomeKind.TRANSIENT
    assert classify(JobError("MINE"), spec).kind is OutcomeKind.UNKNOWN


def test_a_handler_knows_where_it_stands():
    """Its file and the line of its first decorator."""

    @handler("a")
    def here(job): ...

    assert spec_of(here).place == f"{here.__code__.co_filename}:{here.__code__.co_firstlineno}"
