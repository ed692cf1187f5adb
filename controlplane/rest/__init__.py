"""The REST gateway of the control plane."""
