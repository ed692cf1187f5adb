"""What jobs that are to run later cost, and how late they start."""
