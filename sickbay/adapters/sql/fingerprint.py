"""Gives failures that differ only in details (ids, numbers, quoted names) the same short fingerprint.

Pure. Existing rows keep their fingerprint: change the rules only together with a migration.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_QUOTED: Final = re.compile(r"""(?<!\w)(?:'[^'\n]*'|"[^"\n]*"|`[^`\n]*`)(?!\w)""")
_PARTICULAR: Final = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a UUID
    r"|\b(?:0x[0-9a-f]+|(?=[a-f]*[0-9])[0-9a-f]{8,})\b"  # a hexadecimal id: at least one digit, or "defaced" were one
    r"|[0-9]+(?:[.,:][0-9]+)*",  # a number, a version, an address, a time of day
    re.IGNORECASE,
)


def normalise(message: str) -> str:
    """The shape of a message: quoted text becomes `""`, ids and numbers `#`, white space single blanks."""
    return " ".join(_PARTICULAR.sub("#", _QUOTED.sub('""', message)).split())


def fingerprint(message: str) -> str:
    """12 hexadecimal digits, equal for messages of the same shape."""
    return hashlib.blake2b(normalise(message).encode("utf-8", "replace"), digest_size=6).hexdigest()
