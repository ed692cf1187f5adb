"""Servers of one's own from Debian's packages: a RabbitMQ, a Redis or a PostgreSQL on a free port, with its data in a folder.

    with RabbitMQ(folder) as server:     # started, and answering
        server.url
        server.kill()                    # kill -9 of the whole server
        server.start()                   # again, with the same data on the same port

They can be frozen (`freeze`, `thaw`), and stop when the context ends. SICKBAY_TEST_BINARIES may name a folder with the programs of other
versions than the machine's, which change to the user they want by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .base import BINARIES, Server
from .ports import free_port, listens
from .postgresql import PostgreSQL
from .rabbitmq import RabbitMQ
from .redis import Redis

__all__ = ["BINARIES", "SERVERS", "PostgreSQL", "RabbitMQ", "Redis", "Server", "free_port", "listens"]

SERVERS: Final[Mapping[str, type[Server]]] = {"rabbitmq": RabbitMQ, "redis": Redis, "postgres": PostgreSQL}
