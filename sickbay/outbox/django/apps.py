"""The app, with a label of its own: Django would take the last part of its name."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """See docs/recipes.md."""

    name = "sickbay.outbox.django"
    label = "sickbay_outbox"
    verbose_name = "Sickbay outbox"
    default_auto_field = "django.db.models.BigAutoField"
