"""The table `sickbay_outbox`, as Django's `makemigrations` wrote it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates the table and the relay's index."""

    initial = True
    dependencies: ClassVar[list[Any]] = []
    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="OutboxRow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("request_id", models.CharField(max_length=128)),
                ("job_type", models.CharField(max_length=64)),
                ("tenant", models.CharField(max_length=64)),
                ("priority", models.CharField(max_length=16)),
                ("payload", models.TextField()),
                ("on_open", models.CharField(max_length=16)),
                ("created_at", models.BigIntegerField()),
                ("due_at", models.BigIntegerField(db_default=0)),
                ("claimed_by", models.CharField(max_length=36, null=True)),
                ("attempts", models.IntegerField(db_default=0)),
                ("failed_at", models.BigIntegerField(db_default=0)),
                ("last_error", models.TextField(null=True)),
            ],
            options={
                "db_table": "sickbay_outbox",
                "indexes": [models.Index(fields=["failed_at", "id"], name="sickbay_outbox_waiting")],
            },
        ),
    ]
