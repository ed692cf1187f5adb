"""Where a job goes after a run. Pure and table-tested."""
