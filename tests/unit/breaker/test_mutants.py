"""The breaker's tests are themselves tested: every mutant of `tests/support/mutants.py` must be killed."""

from __future__ import annotations

import pytest

from tests.support import mutants


@pytest.mark.long
@pytest.mark.timeout(400)
def test_every_mutant_is_killed():
    """A hundred runs of the laws: 40 s of a processor, minutes on a machine that others use."""
    survivors = {name: why for name, why in mutants.verdicts(mutants.MUTANTS).items() if why}
    assert survivors == {}


def test_a_mutant_whose_line_is_gone_is_a_failure():
    gone = mutants.Mutant("gone", "machine", "this line is not there", "")
    assert mutants.verdicts([gone]) == {"gone": "its line occurs 0 times in machine.py"}


def test_a_mutant_that_breaks_nothing_is_a_survivor():
    same = mutants.Mutant("same", "cooldown", "MAX_JITTER: Final = 1_000", "MAX_JITTER: Final = 1_001", mutants.EXAMPLES)
    assert mutants.verdicts([same]) == {"same": "no test noticed"}
