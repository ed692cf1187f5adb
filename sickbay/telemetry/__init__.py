"""Logs, metrics and traces of a process. They are attached by observers, so the code that processes jobs does not know them."""
