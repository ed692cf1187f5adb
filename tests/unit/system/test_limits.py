"""How much clients may take: within the files that a process may open, and never all of it for one peer."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.limits import RESERVE, Limits
from sickbay.system.files import ENOUGH, LOW

RAISED = """
import logging, resource, sys
logging.basicConfig(format="%(message)s", stream=sys.stdout)
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from sickbay.system.files import raise_file_limit
print(raise_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@given(files=st.integers(64, 2**30), ports=st.sampled_from([2, 6]), connections=st.integers(1, 50_000))
def test_all_ports_together_leave_files_for_the_rest(files, ports, connections):
    limits = Limits(connections=connections, connections_per_peer=max(1, connections // 2)).within(files, ports)
    assert limits.connections <= connections
    if limits.connections < connections and limits.connections > 16:
        assert limits.connections * ports <= files - min(RESERVE, files // 2)
    if limits.connections > 1:
        assert limits.connections_per_peer < limits.connections


def test_the_usual_limits_grant_the_defaults_to_all_six_ports():
    assert Limits().within(ENOUGH, 6) == Limits()


def _raised(soft, hard):
    done = subprocess.run([sys.executable, "-c", RAISED, str(soft), str(hard)], capture_output=True, text=True, check=True)
    *said, numbers = done.stdout.strip().splitlines()
    return [int(number) for number in numbers.split()], said


def test_the_soft_limit_is_raised_to_the_hard_one():
    assert _raised(256, 8_000) == ([8_000, 8_000, 8_000], [])


def test_a_low_hard_limit_is_said():
    numbers, said = _raised(256, 1_024)
    assert numbers == [1_024, 1_024, 1_024]
    assert len(said) == 1
    assert "limit of open files is 1024" in said[0]
    assert str(LOW) in said[0]
