"""Whatever a handler raises comes to an outcome that can be written."""

import asyncio
import pickle
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sickbay import JobError
from sickbay.domain.errors import MAX_RETRY_AFTER
from sickbay.domain.failure import MAX_MESSAGE_CHARS
from sickbay.domain.job import CODE_PATTERN
from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.classify import classify
from sickbay.handlers.registry import HandlerSpec
from tests.support.nasty_values import CODES, MESSAGES, SAMPLES, WAITS, Panic, deep_group, make, nasty_exceptions

PLAIN = HandlerSpec("email", print)
MAPPED = HandlerSpec(
    "email", print, codes={Exception: "ANY", Panic: "PANIC"}, kinds={"ANY": OutcomeKind.DATA, "VALUE_ERROR": OutcomeKind.SYSTEMIC}
)
FAILURES = {OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.DATA, OutcomeKind.UNKNOWN}


def holds(outcome):
    """The law."""
    assert outcome.kind in FAILURES
    assert "(cannot be read: " not in outcome.message, outcome
    assert type(outcome.code) is str
    assert re.fullmatch(CODE_PATTERN, outcome.code)
    assert type(outcome.message) is str
    assert len(outcome.message) <= MAX_MESSAGE_CHARS
    assert "\x00" not in outcome.message
    outcome.message.encode()
    assert outcome.retry_after_ms is None or (type(outcome.retry_after_ms) is int and 0 <= outcome.retry_after_ms <= MAX_RETRY_AFTER * 1000)
    return True


@pytest.mark.no_cover  # many examples; shorter tests cover the same
@settings(max_examples=500, suppress_health_check=list(HealthCheck), deadline=None)
@given(nasty_exceptions(), st.sampled_from([PLAIN, MAPPED]))
def test_whatever_is_raised_comes_to_an_outcome_that_can_be_written(make_it, spec):
    """Vices of all kinds, combined."""
    assert holds(classify(make_it(), spec))


@pytest.mark.parametrize("name", SAMPLES)
def test_each_sample_comes_to_an_outcome_that_can_be_written(name):
    """The samples, one by one, so that a failure names its vice."""
    assert holds(classify(SAMPLES[name](), PLAIN))


@pytest.mark.parametrize("field", ["code", "message", "kind", "retry_after"])
def test_a_job_error_whose_fields_were_changed_is_judged_by_what_is_valid_of_it(field):
    """Fields can be set after they were checked."""
    for value in (*MESSAGES, *WAITS, *CODES):
        error = JobError("MINE", "text", kind="data", retry_after=1)
        setattr(error, field, value)
        assert holds(classify(error, PLAIN))


def test_a_job_errors_message_may_be_anything():
    """The exception that was caught, for example; the code holds."""
    for message in MESSAGES:
        outcome = classify(JobError("MINE", message), PLAIN)
        assert holds(outcome)
        assert outcome.code == "MINE"


def test_a_job_error_survives_a_pool_of_processes():
    """Pickling used to make it again from its text, which is no code."""
    again = pickle.loads(pickle.dumps(JobError("MINE", "text", kind="data", retry_after=2)))  # noqa: S301 - our own
    assert (again.code, again.message, again.kind, again.retry_after, str(again)) == ("MINE", "text", OutcomeKind.DATA, 2, "MINE: text")


def test_an_unreadable_message_says_so():
    """The operator learns why there is no message."""
    assert classify(SAMPLES["str raises"](), PLAIN).message == "Nasty (its text cannot be read: Panic)"
    assert classify(SAMPLES["surrogates"](), PLAIN).message == r"[Errno 2] No such file: '\udcff.txt'"
    assert classify(SAMPLES["nul"](), PLAIN).message == r"\x00"


@pytest.mark.parametrize(
    ("wait", "ms"),
    [
        ("7", 7_000),
        (1.5, 1_500),
        (0, 0),
        (10**400, 86_400_000),
        (1e9, 86_400_000),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
    ],
)
def test_a_wait_is_a_number_of_seconds_of_at_most_a_day(wait, ms):
    """Whatever type it has."""
    assert classify(make(Exception, retry_after=wait), PLAIN).retry_after_ms == ms


async def test_a_job_error_in_a_task_group_keeps_code_kind_and_wait():
    """It used to be EXCEPTION_GROUP, unknown."""

    async def fail():
        raise JobError("BAD_ADDRESS", "no such mailbox", kind="data", retry_after=3)

    async def fan_out():
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))

    with pytest.raises(ExceptionGroup) as caught:
        await fan_out()
    outcome = classify(caught.value, PLAIN)
    assert (outcome.code, outcome.kind, outcome.message, outcome.retry_after_ms) == (
        "BAD_ADDRESS",
        OutcomeKind.DATA,
        "no such mailbox",
        3_000,
    )


@pytest.mark.parametrize(
    ("leaves", "code", "kind"),
    [
        ([RuntimeError(), JobError("MINE", kind="data"), TimeoutError()], "MINE", OutcomeKind.DATA),
        ([JobError("MINE", kind="data"), JobError("OTHER", kind="systemic")], "OTHER", OutcomeKind.SYSTEMIC),
        ([RuntimeError(), TimeoutError(), ConnectionResetError()], "API_TIMEOUT", OutcomeKind.SYSTEMIC),
        ([RuntimeError("a"), ExceptionGroup("g", [ConnectionResetError()])], "NETWORK_ERROR", OutcomeKind.TRANSIENT),
        ([asyncio.CancelledError(), RuntimeError()], "RUNTIME_ERROR", OutcomeKind.UNKNOWN),
        ([asyncio.CancelledError()], "CANCELLED_ERROR", OutcomeKind.UNKNOWN),
    ],
)
def test_a_group_is_what_its_leaves_are(leaves, code, kind):
    """What the handler says first, then the worse kind, then the first."""
    outcome = classify(BaseExceptionGroup("g", leaves), PLAIN)
    assert (outcome.code, outcome.kind) == (code, kind)
    assert outcome.message.endswith(f"(and {len(leaves) - 1} more)") == (len(leaves) > 1)


def test_a_group_waits_for_the_longest_wait():
    """Whoever asks for it."""
    group = ExceptionGroup("g", [JobError("A", retry_after=5), ExceptionGroup("h", [JobError("B", retry_after=9)])])
    assert classify(group, PLAIN).retry_after_ms == 9_000


def test_a_deep_group_is_still_its_leaf():
    """No recursion."""
    assert classify(deep_group(3_000, JobError("MINE")), PLAIN).code == "MINE"


def test_a_mapping_of_a_groups_class_holds_for_the_group_and_one_of_exception_for_its_leaves():
    """`codes={Exception: ...}` means the failures, not the parcel they come in."""
    group = ExceptionGroup("g", [KeyError("x")])
    assert classify(group, HandlerSpec("email", print, codes={ExceptionGroup: "PARCEL"})).code == "PARCEL"
    assert classify(group, HandlerSpec("email", print, codes={Exception: "ANY", KeyError: "KEY"})).code == "KEY"


def raised_from(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            raised_from(RuntimeError("could not send"), ConnectionRefusedError("no")),
            "CONNECTION_REFUSED",
            "could not send (from ConnectionRefusedError: no)",
        ),
        (raised_from(RuntimeError("a"), raised_from(RuntimeError("b"), TimeoutError("c"))), "API_TIMEOUT", "a (from TimeoutError: c)"),
        (raised_from(RuntimeError("a"), ExceptionGroup("g", [JobError("MINE")])), "MINE", None),
        (raised_from(JobError("MINE", "mine"), ConnectionRefusedError()), "MINE", "mine"),
        (raised_from(RuntimeError("a"), OSError("b")), "RUNTIME_ERROR", "a"),
    ],
)
def test_an_exception_that_says_nothing_is_what_it_was_raised_from(error, code, message):
    """Wrappers of one's own need no mapping."""
    outcome = classify(error, PLAIN)
    assert outcome.code == code
    assert message is None or outcome.message == message


def test_what_goes_wrong_while_a_failure_is_handled_is_a_failure_of_its_own():
    """`__context__` decides nothing."""
    error = RuntimeError("in the handling")
    error.__context__ = ConnectionRefusedError()
    assert classify(error, PLAIN).code == "RUNTIME_ERROR"
