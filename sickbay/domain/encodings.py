"""Recognises the compression or encoding of a message that could not be read, where that is the reason. Pure."""

from __future__ import annotations

from typing import Final

_MAX_CHARS: Final = 100
_PLAIN: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "identity", "binary", "8bit"})
"""Content encodings that plain JSON may have."""
_SIGNATURES: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\xef\xbb\xbf": "UTF-8 with a byte order mark",
}


def explain(why: str, body: bytes, encoding: str) -> str:
    """Why a message could not be read; `encoding` is what its publisher declared (`Delivery.encoding`)."""
    if encoding and encoding.lower() not in _PLAIN:
        found = f"its content encoding is {encoding[:_MAX_CHARS]!r}"
    else:
        found = next((f"its body looks like {name}" for signature, name in _SIGNATURES.items() if body.startswith(signature)), "")
    return f"{why} ({found}, and only plain JSON in UTF-8 is supported)" if found else why
