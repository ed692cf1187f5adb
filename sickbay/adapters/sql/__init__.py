"""The ledger in SQL: PostgreSQL or SQLite, through SQLAlchemy Core and Alembic. Begin with `ledger.py`."""
