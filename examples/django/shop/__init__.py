"""A shop whose orders are invoiced by jobs."""
