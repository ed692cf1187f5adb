"""Django's migrations of the outbox's table."""
