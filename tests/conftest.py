"""What holds for every test, in whatever order they run."""

import signal
import sys

from hypothesis import settings

from tests.support.forked import FORK_SERVER

RECURSION_LIMIT = sys.getrecursionlimit()

settings.register_profile("sickbay", deadline=None)  # a slow machine proves nothing
settings.load_profile("sickbay")

for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:  # a shell's job in the background: what the tests start would ignore it, too
        signal.signal(number, signal.SIG_DFL)


def pytest_runtest_setup(item):
    """Each test begins with the same settings of the process that runs it.

    Hypothesis raises the limit while an example runs, and leaves it so if the example changed it: the next test has Python's own.
    """
    sys.setrecursionlimit(RECURSION_LIMIT)
    FORK_SERVER.enabled = item.get_closest_marker("executed") is None
