"""The worker: consumes jobs, runs their handlers, and routes the outcomes. Start with `engine.py`."""

import os
import sys

if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 - what Python put there
    # `python -m` puts the current folder before everything: a user's `email.py` or `queue.py` there would take the place of Python's.
    sys.path.append(sys.path.pop(0))

# grpc's core writes lines of its own to stderr, in no format, for each of some bad calls: a client could fill the log with them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Its fork handlers would start its threads again in the fork of a handler, where they answer on the connections of this process.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
