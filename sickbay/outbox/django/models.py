"""The table for Django: the same as `sickbay.outbox.table`. Jobs are submitted with `outbox.submit(connection, ...)`, never made here."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from sickbay.outbox.writing import TABLE


class OutboxRow(models.Model):
    """A job that waits for the relay, or that the Job API has rejected (`failed_at` is not 0). Times are in ms since the epoch."""

    id = models.BigAutoField(primary_key=True)
    request_id = models.CharField(max_length=128)
    job_type = models.CharField(max_length=64)
    tenant = models.CharField(max_length=64)
    priority = models.CharField(max_length=16)
    payload = models.TextField()
    on_open = models.CharField(max_length=16)
    created_at = models.BigIntegerField()
    due_at = models.BigIntegerField(db_default=0)
    claimed_by = models.CharField(max_length=36, null=True)  # noqa: DJ001 - it is the relay's, which writes NULL
    attempts = models.IntegerField(db_default=0)
    failed_at = models.BigIntegerField(db_default=0)
    last_error = models.TextField(null=True)  # noqa: DJ001 - the same
    run_at = models.BigIntegerField(db_default=0)

    class Meta:
        """Where the relay looks for it."""

        db_table = TABLE
        indexes: ClassVar = [models.Index(fields=["failed_at", "id"], name=f"{TABLE}_waiting")]

    def __str__(self) -> str:
        return f"{self.job_type} {self.request_id}"
