"""Settings of a small project: SQLite, or PostgreSQL with SHOP_DATABASE_URL."""

import os
from pathlib import Path
from urllib.parse import urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "for development only")
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["shop", "sickbay.outbox.django"]  # the second one has the table of the outbox

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "shop.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},  # views, handlers and the relay write
        "TEST": {"NAME": BASE_DIR / "test.sqlite3"},  # handlers run in threads of their own: a database in memory is of one thread
    }
}
if url := os.environ.get("SHOP_DATABASE_URL"):
    server = urlsplit(url)
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": server.hostname,
        "PORT": server.port,
        "USER": server.username,
        "PASSWORD": server.password or "",
        "NAME": server.path[1:],
        "TEST": {"NAME": f"{server.path[1:]}_tests"},
    }
