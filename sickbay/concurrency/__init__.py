"""Work beside its caller, pauses between attempts, and paces."""
