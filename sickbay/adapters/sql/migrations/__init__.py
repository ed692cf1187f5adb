"""The migrations of the ledger, run by `migrate.py` when a program opens an older database."""
