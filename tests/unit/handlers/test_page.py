"""docs/handlers.md tells what the code does."""

import re

import pytest

from scripts.handlers_table import DOCS, rendered
from sickbay.domain.outcome import OutcomeKind
from sickbay.handlers.classify import classify
from tests.support.canned_services import PLAIN


def test_the_pages_table_is_the_codes():
    """`python -m scripts.handlers_table` writes it."""
    text = DOCS.read_text()
    assert rendered(text) == text


def test_the_verification_of_a_signature_is_that_of_the_example():
    """The example is run by a test."""
    (snippet,) = re.findall(r"```python\n(def is_signed\(.*?)```", DOCS.with_name("http-handlers.md").read_text(), re.DOTALL)
    assert snippet in (DOCS.parents[1] / "examples" / "http_handler" / "endpoint.py").read_text()


@pytest.mark.parametrize(
    "error",
    [
        ArithmeticError(), ZeroDivisionError(), OverflowError(), AssertionError(), AttributeError(), BufferError(), EOFError(),
        IndexError(), KeyError(), LookupError(), MemoryError(), NameError(), NotImplementedError(), RecursionError(), StopIteration(),
        SyntaxError(), TypeError(), UnboundLocalError(), UnicodeError(), ValueError(), UnicodeDecodeError("utf-8", b"", 0, 1, "no"),
        FileNotFoundError(2, "no", "x"), IsADirectoryError(21, "no", "x"), PermissionError(13, "no", "x"), OSError(36, "too long"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_a_payload_or_a_mistake_brings_about_never_counts(error):
    """Under its own name, as before."""
    outcome = classify(error, PLAIN)
    assert outcome.kind is OutcomeKind.DATA
    assert not outcome.kind.is_breaker_failure


def test_it_keeps_its_name():
    """By which operators know it."""
    assert classify(KeyError("to"), PLAIN).code == "KEY_ERROR"
    assert classify(UnicodeDecodeError("utf-8", b"", 0, 1, "no"), PLAIN).code == "UNICODE_DECODE_ERROR"


def test_an_error_for_bad_input_of_ones_own_is_data_too():
    """Derived from ValueError."""
    outcome = classify(type("BadAddress", (ValueError,), {})("no"), PLAIN)
    assert (outcome.code, outcome.kind) == ("BAD_ADDRESS", OutcomeKind.DATA)


def test_a_mistake_that_was_made_of_a_dependencys_failure_is_that_failure():
    """`raise ValueError("cannot fetch") from error`."""
    error = ValueError("cannot fetch")
    error.__cause__ = ConnectionRefusedError()
    assert classify(error, PLAIN).code == "CONNECTION_REFUSED"


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        (28, "ENOSPC", OutcomeKind.SYSTEMIC),
        (24, "EMFILE", OutcomeKind.SYSTEMIC),
        (111, "CONNECTION_REFUSED", OutcomeKind.SYSTEMIC),
        (110, "API_TIMEOUT", OutcomeKind.SYSTEMIC),
        (113, "NETWORK_ERROR", OutcomeKind.TRANSIENT),
        (104, "NETWORK_ERROR", OutcomeKind.TRANSIENT),
        (32, "NETWORK_ERROR", OutcomeKind.TRANSIENT),
        (22, "OS_ERROR", OutcomeKind.UNKNOWN),
        (13, "PERMISSION_ERROR", OutcomeKind.UNKNOWN),
    ],
)
def test_an_error_of_the_operating_system_is_its_number(number, code, kind):
    """A full disk counts, a broken pipe is the network's."""
    outcome = classify(OSError(number, "because"), PLAIN)
    assert (outcome.code, outcome.kind) == (code, kind)


@pytest.mark.parametrize("error", [SystemExit(500), KeyboardInterrupt(), GeneratorExit(), type("Panic", (BaseException,), {})()])
def test_what_is_no_exception_is_unknown(error):
    """`sys.exit(500)` is no answer of a server."""
    assert classify(error, PLAIN).kind is OutcomeKind.UNKNOWN
