"""Connections of Django to databases for tests, without a project of Django's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.db import connections

from tests.support.outbox_databases import OutboxDatabase


@contextmanager
def django_connection(database: OutboxDatabase) -> Iterator[Any]:
    """One of Django's connections to the database, under an alias of its own (`connection.alias`)."""
    _configure()
    alias = f"test_{uuid.uuid4().hex}"
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: _settings(database)})[alias]
    try:
        yield connections[alias]
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


def _configure() -> None:
    """Django's settings are of the process."""
    if not settings.configured:
        settings.configure(INSTALLED_APPS=["sickbay.outbox.django"], USE_TZ=True)
        django.setup()


def _settings(database: OutboxDatabase) -> dict[str, object]:
    if database.dialect == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": database.url.removeprefix("sqlite:///")}
    url = urlsplit(database.url)
    server = {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "PASSWORD": url.password or ""}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], **server}
