"""The chaos suite uses the system tests' fleet."""

from tests.system.conftest import corner, fleet, own_clinic

__all__ = ["corner", "fleet", "own_clinic"]
