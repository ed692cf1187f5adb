"""Start, run and shutdown of a process: settings, backends, signals. The only layer that knows the adapters."""
