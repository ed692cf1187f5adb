"""What a handler may say about its progress, and where it goes."""

import copy
import pickle
from dataclasses import fields, replace

import pytest

from sickbay import Job
from sickbay.domain.progress import Progress, is_later
from sickbay.domain.run_context import RunContext, bind, is_bound, unbind


@pytest.fixture
def said():
    return []


@pytest.fixture
def job(said):
    one = Job("j", "email", b'{"a": 1}')
    bind(one, RunContext(lambda *what: said.append(what)))
    return one


@pytest.mark.parametrize("fraction", [0, 1, 0.4, True, 320 / 800])
def test_a_fraction_from_0_to_1_is_passed_on(job, said, fraction):
    job.progress(fraction, "320 of 800")
    assert said == [(float(fraction), "320 of 800")]
    assert type(said[0][0]) is float


@pytest.mark.parametrize("fraction", [-0.01, 1.01, 40, float("nan"), float("inf"), 10**400, None, "half", [0.5]])
def test_any_other_is_a_mistake_also_outside_of_a_run(job, said, fraction):
    for one in (job, Job("j", "email")):
        with pytest.raises(ValueError, match=r"progress: the fraction must be a number from 0 to 1, not "):
            one.progress(fraction)
    assert said == []


def test_the_message_is_text_and_cut(job, said):
    job.progress(0.5, "x" * 300)
    assert said == [(0.5, "x" * 200)]
    with pytest.raises(TypeError, match="the message must be a text, not int"):
        job.progress(0.5, 5)


def test_outside_of_a_run_it_does_nothing(job, said):
    Job("j", "email").progress(0.5)
    unbind(job)
    job.progress(0.5)
    assert said == []
    assert not is_bound(job)


def test_it_is_bound_to_the_object_that_the_handler_got_and_no_part_of_the_job(job, said):
    """So a job can be compared, copied and sent to another process as before."""
    assert "_run" not in {field.name for field in fields(job)}
    assert job == Job("j", "email", b'{"a": 1}')
    assert "_run" not in repr(job)
    for other in (replace(job, attempt=1), copy.copy(job), copy.deepcopy(job), pickle.loads(pickle.dumps(job))):  # noqa: S301 - our own
        assert other.payload == {"a": 1}
        other.progress(0.5)
    assert said == []


def test_a_later_report_says_more():
    first, second = Progress(0.5, at=1), Progress(0.4, at=2)
    assert [is_later(first, None), is_later(second, first), is_later(first, second), is_later(first, first), is_later(None, None)] == [
        True,
        True,
        False,
        False,
        False,
    ]
