"""The script of the fork server (see `forked.py`): it has imported the product, and forks for each request.

What is forked leaves `_serve` and goes on to the end of this file, so that it ends as every Python program does.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import socket
import struct
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

PRELOADED: Final = (
    "sickbay_cli.main",
    "sickbay_cli.up",
    "sickbay_cli.services",
    "jobapi.app",
    "worker.app",
    "controlplane.app",
    *("alembic.command", "encodings.idna", "pydantic.v1", "uvicorn.lifespan.off"),
)
"""The product, and what it imports only when it starts: Alembic for a new ledger, the others by way of FastAPI, aio-pika and uvicorn."""
REQUEST_BYTES: Final = 1 << 20
STATUS: Final = struct.Struct("i")


def _serve(server: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; returns it in the forked process, and None when the client has gone."""
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                selector.unregister(key.fd)
                _report(key.fd, *key.data)
                continue
            message, fds, _, _ = socket.recv_fds(server, REQUEST_BYTES, 3)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                _close(selector, server)
                return _begin(json.loads(message), *fds)
            os.write(fds[2], STATUS.pack(pid))
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, fds[2]))
            os.close(fds[0])
            os.close(fds[1])


def _report(pidfd: int, pid: int, status: int) -> None:
    """A process has ended: tell how."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):  # nobody wants to know
        os.write(status, STATUS.pack(code))
    os.close(status)
    os.close(pidfd)


def _close(selector: selectors.BaseSelector, server: socket.socket) -> None:
    """Leave nothing of the server to the forked process."""
    for key in list(selector.get_map().values()):
        if key.data is not None:
            os.close(key.fd)
            os.close(key.data[1])
    selector.close()
    server.close()


def _begin(request: dict[str, Any], out: int, err: int, status: int) -> dict[str, Any]:
    os.close(status)
    for stream, fd in ((1, out), (2, err)):
        os.dup2(fd, stream)
        os.close(fd)
    os.chdir(request["folder"])
    own = {name: value for name, value in os.environ.items() if name.startswith("GRPC_")}  # the product's, set when it was imported
    os.environ.clear()
    os.environ.update(own | request["env"])
    sys.path[:] = [*sys.path[1:], request["folder"]]  # as the product has it with `python -m`; the first is the folder of this file
    return request


if __name__ == "__main__":
    for _name in PRELOADED:
        import_module(_name)
    gc.collect()
    gc.freeze()
    _request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if _request is not None:
        _module, *_arguments = _request["words"]
        sys.argv = ["-m", *_arguments]
        sys.modules.pop(f"{_module}.__main__", None)  # another module may have imported it
        runpy.run_module(_module, run_name="__main__", alter_sys=True)
