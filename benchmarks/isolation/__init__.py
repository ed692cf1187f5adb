"""What one type, tenant or flood costs the others: from submission to the start of the handler. See `__main__`."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else it tells of every child process that is started
