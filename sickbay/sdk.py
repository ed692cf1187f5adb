"""The handler SDK: how a function becomes the handler of a job type, and how its exceptions become outcomes."""

from __future__ import annotations


def handler(job_type: str) -> None:
    """Placeholder until the SDK stands."""
