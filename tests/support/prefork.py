"""A web server that loads the app and then forks, as `gunicorn --preload` does: `python prefork.py MODULE:CALLABLE`, in the app's folder.

Writes the port of each of its two processes; ends with its standard input.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...


def main(name: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute.removesuffix("()"))
    app = found() if attribute.endswith("()") else found
    children = []
    for server in [make_server("127.0.0.1", 0, app, handler_class=Quiet) for _ in range(2)]:
        if not (child := os.fork()):
            server.serve_forever()
        children.append(child)
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1])
