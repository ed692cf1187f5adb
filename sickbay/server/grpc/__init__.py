"""The bounds of a gRPC port: connections, calls, watches, and what they may keep us waiting for. Start with `server.py`."""
