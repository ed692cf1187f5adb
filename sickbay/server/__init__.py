"""The endpoints of a service: gRPC with health and reflection, and a REST gateway over an in-process channel to the same servicers."""
