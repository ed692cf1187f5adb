"""The audit log of both doors: every action, and every refused call."""
