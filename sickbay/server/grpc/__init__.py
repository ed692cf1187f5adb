"""The gRPC server and its limits: connections, calls, watches, timeouts. Start with `server.py`."""
