"""Redis: the fleet's breakers (one script inside the server decides), idempotency keys, and a duplicate guard without a ledger."""
