"""What holds for every test, in whatever order they run."""

import os
import signal
import sys

import pytest
from hypothesis import settings

from tests.support.forked import FORK_SERVER

RECURSION_LIMIT = sys.getrecursionlimit()

settings.register_profile("sickbay", deadline=None)  # a slow machine proves nothing
settings.load_profile("sickbay")

for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:  # a shell's job in the background: what the tests start would ignore it, too
        signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Let tests that take half a minute and more begin first, spread over the processes of xdist: one of them at the end would run alone.

    xdist gives each process an equal stretch of the tests at first; all others stay in their random order.
    """
    long = [item for item in items if item.get_closest_marker("long")]
    rest = [item for item in items if not item.get_closest_marker("long")]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    stretch = len(items) // processes
    for number, item in enumerate(long):
        rest.insert((number % processes) * stretch + number // processes, item)
    items[:] = rest


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """End what pytest-cov 7 begins in a process of xdist before its own measurement there.

    It is never saved, and it goes on while the other one pauses: `no_cover` would have no effect.
    """
    plugin = session.config.pluginmanager.get_plugin("_cov")
    if hasattr(session.config, "workerinput") and getattr(plugin, "cov_controller", None) is not None:
        plugin.cov_controller.cov.stop()


def pytest_runtest_setup(item):
    """Each test begins with the same settings of the process that runs it.

    Hypothesis raises the limit while an example runs, and leaves it so if the example changed it: the next test has Python's own.
    """
    sys.setrecursionlimit(RECURSION_LIMIT)
    FORK_SERVER.enabled = item.get_closest_marker("executed") is None
