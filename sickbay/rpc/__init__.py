"""The doors: gRPC servers with health and reflection, interceptors, the in-process channel, and the REST factory."""
