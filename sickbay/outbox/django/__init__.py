"""The outbox's table as a Django app: put `"sickbay.outbox.django"` into INSTALLED_APPS, and `manage.py migrate` makes it."""
