"""Handlers that use Django's models.

../../.venv/bin/python manage.py migrate
../../.venv/bin/sickbay up --ephemeral --handlers handlers
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()  # before the models are imported

from django.db import close_old_connections, connection, transaction  # noqa: E402 - see above
from shop.models import Order  # noqa: E402

from sickbay import Job, handler  # noqa: E402


def in_django(function: Callable[[Job], Any]) -> Callable[[Job], Any]:
    """Do what Django does for a request: drop connections that are broken or too old, before and after."""

    @functools.wraps(function)
    def run(job: Job) -> Any:
        _drop_old_connections()
        try:
            return function(job)
        finally:
            _drop_old_connections()

    return run


def _drop_old_connections() -> None:
    if not connection.in_atomic_block:  # as in a TestCase, whose transaction this would end
        close_old_connections()


@handler("invoice", timeout=30, retries={"NOT_FOUND": 0})
@in_django
def invoice(job: Job) -> dict[str, int]:
    """A plain function: Django's ORM is synchronous. A second run of the job finds the number of the first."""
    with transaction.atomic():
        order = Order.objects.select_for_update().get(pk=job.payload["order"])
        if order.invoice is None:
            order.invoice = 1_000 + order.pk
            order.save(update_fields=["invoice"])
    return {"invoice": order.invoice}


@handler("report")
@in_django
def report(job: Job) -> dict[str, int]:
    """What it returns is the job's result."""
    return {"invoiced": Order.objects.filter(invoice__isnull=False).count()}
