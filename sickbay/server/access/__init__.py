"""Access control of both doors: who calls, and whether that principal may."""
