"""The PostgreSQL of SICKBAY_TEST_POSTGRES_URL, where tests may create databases and roles. Without fixtures, so anybody may import it."""

import os

POSTGRES = os.environ.get("SICKBAY_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")

FULL_DISK = (
    """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE disk_full USING MESSAGE = ''could not extend file "base/5/16393": No space left on device''; END'
    """,
    "CREATE TRIGGER full_disk BEFORE INSERT ON jobs EXECUTE FUNCTION full_disk()",
    "CREATE TRIGGER full_disk BEFORE INSERT ON idempotency_keys EXECUTE FUNCTION full_disk()",
    "CREATE TRIGGER full_disk BEFORE INSERT ON write_check EXECUTE FUNCTION full_disk()",
)
"""What makes a ledger refuse new jobs, keys and the test write as a full disk does."""
ROOM_AGAIN = "DROP FUNCTION full_disk CASCADE"
