"""HTTP without TLS: a client that is told so does not load the machine's certificates, which takes longer than a call."""

from __future__ import annotations

import ssl
from typing import Final

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For httpx's `verify`. It trusts nobody, so no call over TLS would go through."""
