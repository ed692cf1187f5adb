"""The time of jobs that are to run later, as Django's `makemigrations` wrote it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds the column; rows that are there run at once."""

    dependencies: ClassVar[list[Any]] = [("sickbay_outbox", "0001_initial")]
    operations: ClassVar[list[Any]] = [
        migrations.AddField(model_name="OutboxRow", name="run_at", field=models.BigIntegerField(db_default=0)),
    ]
