"""The control plane: keeps the ledger, heals, and serves the admins. Start with `healer.py`."""
