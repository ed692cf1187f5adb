"""Tests in Django's style: `manage.py test`. No service is running."""

import json
import math
from unittest.mock import patch

import handlers
from django.test import TestCase, TransactionTestCase

from shop.models import Order
from sickbay.outbox.django.models import OutboxRow
from sickbay.testing import run, start_system


class ViewTests(TestCase):
    """A view has done its part when the row is in the outbox."""

    def test_an_order_has_a_job(self):
        """Both are of one transaction."""
        answer = self.client.post("/orders", {"name": "Ada"}, content_type="application/json")
        self.assertEqual(answer.status_code, 201)
        row = OutboxRow.objects.get()
        self.assertEqual((row.job_type, json.loads(row.payload)), ("invoice", answer.json()))

    def test_without_an_order_there_is_no_job(self):
        """What is rolled back has none."""
        with self.assertRaises(KeyError):
            self.client.post("/orders", {}, content_type="application/json")
        self.assertFalse(OutboxRow.objects.exists())


class HandlerTests(TestCase):
    """One run of a handler, in the thread of the test (`timeout=math.inf`), and so in its transaction."""

    def test_an_order_is_invoiced_once(self):
        """At least once: a second run changes nothing."""
        order = Order.objects.create(name="Ada")
        for attempt in (1, 2):
            ended = run(handlers.invoice, {"order": order.pk}, attempt=attempt, timeout=math.inf)
            self.assertEqual(ended.result, {"invoice": 1_000 + order.pk})

    def test_an_order_that_does_not_exist_is_for_a_person(self):
        """No repeat helps, and no breaker counts it."""
        ended = run(handlers.invoice, {"order": 0}, timeout=math.inf)
        self.assertEqual((ended.code, ended.will_be_quarantined, ended.breaker_counts), ("NOT_FOUND", True, False))


class WholeWayTests(TransactionTestCase):
    """With the whole product in memory; handlers run in threads of their own, so what they are to see is committed."""

    def test_a_report(self):
        """Submitted by one view, and followed by another."""
        Order.objects.create(name="Ada", invoice=17)
        with start_system("handlers") as system, patch("shop.jobs.client", return_value=system.client):
            job_id = self.client.post("/reports", {}, content_type="application/json").json()["job"]
            system.drain()
            shown = self.client.get(f"/jobs/{job_id}").json()
            self.assertEqual(shown, {"state": "SUCCEEDED", "result": {"invoiced": 1}})
            self.assertEqual(self.client.get("/jobs/nothing").status_code, 404)
