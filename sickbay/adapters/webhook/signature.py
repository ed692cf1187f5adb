"""The signature of Standard Webhooks (version 1, symmetric): HMAC-SHA256 of id, timestamp and body.

Pure. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from sickbay.domain.errors import SettingsError

PREFIX: Final = "whsec_"
_SHORTEST: Final = 24
_LONGEST: Final = 64


def parse_secret(text: str, name: str = "WEBHOOK_SECRET") -> bytes:
    """The key in `whsec_...`; SettingsError, without the secret, if it is not one. `name` is that of the setting."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise SettingsError(
            f"{name} must be {PREFIX} and the base64 of {_SHORTEST} to {_LONGEST} random bytes; "
            f'make one: echo "{PREFIX}$(head -c 32 /dev/urandom | base64)"'
        )
    return key


def signed_headers(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers, with a signature by each key; `timestamp` is that of this attempt in seconds."""
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
