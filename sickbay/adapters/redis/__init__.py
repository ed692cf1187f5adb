"""Redis: the fleet's circuits (one script inside the server decides) and the idempotency keys."""
