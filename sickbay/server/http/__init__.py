"""The HTTP server: uvicorn, with bounds on everything that a client can make it keep or wait for. Start with `connection.py`."""
