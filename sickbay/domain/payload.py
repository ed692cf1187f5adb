"""Reads the payload of a job: JSON text whose value is an object. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import typing_extensions

    P_co = typing_extensions.TypeVar("P_co", covariant=True, default=dict[str, Any])
else:
    P_co = TypeVar("P_co", covariant=True)
"""What `job.payload` is: for type checkers a dictionary, unless the handler says otherwise."""


class PayloadUnreadable(ValueError):
    """The bytes of a payload cannot be read as a JSON object; the text says why."""


def read_payload(text: bytes) -> dict[str, Any]:
    """The object in a payload's JSON text; PayloadUnreadable if there is none."""
    try:
        decoded = json.loads(text)
    except json.JSONDecodeError as error:
        raise PayloadUnreadable(f"the payload is not JSON ({error.msg}, character {error.pos})") from None
    except UnicodeDecodeError:
        raise PayloadUnreadable("the payload is not UTF-8") from None
    except ValueError:
        raise PayloadUnreadable("the payload has a number of more digits than Python reads") from None
    except RecursionError:
        raise PayloadUnreadable("the payload is nested too deep") from None
    if not isinstance(decoded, dict):
        raise PayloadUnreadable("the payload is not a JSON object")
    return decoded
