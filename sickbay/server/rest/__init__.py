"""The REST gateway: JSON, server-sent events, OpenAPI, and protection against cross-site requests."""
