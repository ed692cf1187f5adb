"""Payloads as objects of a class: a model of pydantic, a msgspec Struct, a dataclass, a class of attrs or a TypedDict.

A class is read and written by the library that it belongs to; dataclasses, attrs and TypedDicts by msgspec. Neither library is imported
before such a class is met, because handlers and clients also work where only the SDK is installed.
"""

from sickbay.handlers.payloads.finding import UNIONS, PayloadType, Unsupported, check_payload, is_typed, payload_type_of
from sickbay.handlers.payloads.mismatch import MAX_SHOWN, PayloadMismatch, Problem, path_of
from sickbay.handlers.payloads.naming import job_type, job_type_of
from sickbay.handlers.payloads.writing import is_payload_object, payload_of

__all__ = [
    "MAX_SHOWN",
    "UNIONS",
    "PayloadMismatch",
    "PayloadType",
    "Problem",
    "Unsupported",
    "check_payload",
    "is_payload_object",
    "is_typed",
    "job_type",
    "job_type_of",
    "path_of",
    "payload_of",
    "payload_type_of",
]
