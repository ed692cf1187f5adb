"""How the system heals after an outage: a fake dependency, a steady load, scenarios, and what others make of the same. See `__main__`."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else it tells of every child process that is started
