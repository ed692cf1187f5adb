"""How the system heals after an outage: a fake dependency, a steady load, scenarios, and what others make of the same. See `__main__`."""
