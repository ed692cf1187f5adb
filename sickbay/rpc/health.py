"""Whether a service takes requests: one answer for the gRPC health service and for GET /health."""

from __future__ import annotations


class Health:
    """Set once by whoever runs the service; read by its doors."""

    def __init__(self, *, serving: bool = True) -> None:
        """Begin with this answer."""
        self.serving = serving
