"""The client of this process."""

import functools

from sickbay.client import Client


@functools.cache
def client() -> Client:
    """Made at its first use, so in each process of the web server after it was forked; threads share it."""
    return Client.from_env()
