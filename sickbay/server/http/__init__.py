"""The HTTP server: uvicorn, with limits on everything that a client can make it buffer or wait for. Start with `connection.py`."""
