"""The REST gateway: JSON in and out, server-sent events, OpenAPI, and what keeps browsers from being abused."""
