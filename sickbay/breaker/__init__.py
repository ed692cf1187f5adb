"""The circuit breaker as a pure state machine (`machine.py`); the Lua scripts in `adapters/redis/lua` implement the same machine."""
