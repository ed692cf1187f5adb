"""Background and detached tasks, back-off between attempts, and rate limits."""
