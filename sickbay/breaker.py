"""The circuit breaker as a pure machine."""
