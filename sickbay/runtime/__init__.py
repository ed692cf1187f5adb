"""How a process begins, runs and ends: settings, back ends, signals. The only room that knows the adapters."""
