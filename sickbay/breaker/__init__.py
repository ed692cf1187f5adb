"""The circuit breaker as a pure machine (`machine.py`), the same as the Lua scripts beside `adapters/redis`."""
