"""The PostgreSQL of SICKBAY_TEST_POSTGRES_URL, where tests may create databases and roles. Without fixtures, so anybody may import it."""

import os

POSTGRES = os.environ.get("SICKBAY_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
